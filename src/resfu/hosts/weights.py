"""Encoder weights from disk."""

import os
import pickle
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

_IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin")


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a file.

    Args:
        path: a `.safetensors` file, anything that `torch.load` reads (`.pt`, `.pth`, `.bin`), or a folder that holds
            `model.safetensors` or `pytorch_model.bin`. Weights under a key `state_dict` are found.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ValueError: when there is nothing at the path or it holds no weights.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        folder = file
        file = next((folder / name for name in _IN_A_FOLDER if (folder / name).is_file()), folder)
        if file == folder:
            raise ValueError(f"no weights in the folder {folder}: expected {' or '.join(_IN_A_FOLDER)}.")
    if not file.is_file():
        raise ValueError(f"no weights at {file}: pretrained takes True, False or the path of a file or folder.")
    try:
        content = _read(file)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{file} cannot be read as weights ({error}).") from error
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file} holds no weights: expected tensors by name, got {type(content).__name__}.")
    return content


def check_keys(source: object, **problems: Iterable[object]) -> None:
    """Refuse weights that do not fit.

    Args:
        source: where the weights come from, for the message.
        **problems: names of weights under what is wrong with them (`missing`, `unexpected`, `misshapen`).

    Raises:
        ValueError: that names the first of each kind, when there are any.
    """
    found = [f"{kind}: {_first([str(name) for name in names])}" for kind, names in problems.items() if names]
    if found:
        raise ValueError(f"the weights of {source} do not fit this encoder; {'; '.join(found)}.")


def _read(file: Path) -> object:
    if file.suffix != ".safetensors":
        return torch.load(file, map_location="cpu", weights_only=True)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise RuntimeError(str(error)) from error


def _first(names: list[str], count: int = 4) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
