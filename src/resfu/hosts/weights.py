"""Read encoder weights from disk, and check that they fit."""

import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

_IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin")


def read_weights(
    path: str | os.PathLike[str], hint: str = "pretrained takes True, False or the path of a file or folder"
) -> dict[str, Tensor]:
    """Read the tensors of a file.

    Args:
        path: a `.safetensors` file, a file that `torch.load` reads (`.pt`, `.pth`, `.bin`), or a folder that contains
            `model.safetensors` or `pytorch_model.bin`. Weights under a key `state_dict` are found too.
        hint: which values the caller's argument takes, for the message if nothing is found.

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
        raise ValueError(f"no weights at {file}: {hint}.")
    try:
        content = _read(file)
    except Exception as error:  # damaged files raise many classes of errors
        raise ValueError(f"{file} cannot be read as weights: {_reason(error)}.") from error
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not (isinstance(content, dict) and content and all(map(_is_weight, content.items()))):
        raise ValueError(f"{file} holds no weights: expected tensors by name, got {_described(content)}.")
    return content


def check_keys(source: object, **problems: Iterable[object]) -> None:
    """Refuse weights that do not fit.

    Args:
        source: where the weights come from, for the message.
        **problems: names of weights by kind of problem (`missing`, `unexpected`, `misshapen`).

    Raises:
        ValueError: if there are any; the message lists the first of each kind.
    """
    found = [f"{kind}: {_first([str(name) for name in names])}" for kind, names in problems.items() if names]
    if found:
        raise ValueError(f"the weights of {source} do not fit this encoder; {'; '.join(found)}.")


def _read(file: Path) -> object:
    if file.suffix != ".safetensors":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about content that files of weights do not have
            return torch.load(file, map_location="cpu", weights_only=True)
    from safetensors.torch import load_file

    return load_file(file)


def _reason(error: Exception) -> str:
    """A short reason; torch's own message is a page about an argument that users of this package do not see."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if found := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it holds {found[1]}; save the tensors alone, by torch.save(network.state_dict(), file)"
    return "it is damaged, or not what torch.save or safetensors writes"


def _is_weight(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _described(content: object) -> str:
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    return f"a dict of {_first([repr(key) for key in content])}" if content else "an empty dict"


def _first(names: list[str], count: int = 4) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
