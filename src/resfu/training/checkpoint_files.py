"""Checkpoint files: written completely or not at all, only with finite weights, and checked for damage when read."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from torch import Tensor

from resfu.files.atomic import replacing
from resfu.training.divergence import DivergenceError, not_finite


class WholeCheckpoints(TorchCheckpointIO):
    """A plugin for Lightning's Trainer that writes its checkpoints.

    A new checkpoint replaces the previous one only when it is complete on the disk. A checkpoint whose weights are not
    all finite is refused.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            DivergenceError: for weights that are not finite; the message names one.
            OSError: when it cannot be written; the message names the file.
        """
        names = not_finite(checkpoint.get("state_dict", {}))
        if names:
            raise DivergenceError(
                f"{path} is not written: at step {checkpoint.get('global_step')} {names[0]} "
                f"({len(names)} such tensors) is not finite. What was there before is kept."
            )
        with replacing(path) as draft, draft.open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: Any, map_location: Any = lambda storage, loc: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, see `read_checkpoint`."""
        return read_checkpoint(Path(path), map_location, weights_only)


def read_checkpoint(
    path: Path, map_location: Any = "cpu", weights_only: bool | None = True, mmap: bool | None = None
) -> dict[str, Any]:
    """Read a checkpoint of a training.

    Args:
        path: the file.
        map_location: see `torch.load`.
        weights_only: see `torch.load`.
        mmap: see `torch.load`; with it the checksums in the file are not checked.

    Returns:
        The content of the checkpoint.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that is empty, cut off, changed or not a checkpoint. The message names it, and the
            checkpoint to use instead.
    """
    try:
        if not mmap:
            _compare_checksums(path)
        content = torch.load(path, map_location=map_location, weights_only=weights_only, mmap=mmap)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # damaged files raise many classes of errors
        raise ValueError(_damage(path)) from error
    if not isinstance(content, dict) or not any(isinstance(value, dict | Tensor) for value in content.values()):
        raise ValueError(f"{path} is not a checkpoint of resfu: it holds a {type(content).__name__}.")
    return content


def _compare_checksums(path: Path) -> None:
    """Check the checksums that `torch.save` writes into its archive; `torch.load` ignores them."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
        if changed is not None:
            raise zipfile.BadZipFile(f"{changed} has another checksum.")


def _damage(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        archive = file.read(2) == b"PK"  # every file of torch.save begins with these bytes
    if size and not archive:
        return f"{path} is not a checkpoint of resfu, nor another file of torch.save."
    damage = f"is cut off or damaged ({size:,} bytes)" if size else "is empty"
    others = [other for other in path.parent.glob("*.ckpt") if other != path and zipfile.is_zipfile(other)]
    if (path.parent / "metrics.json").is_file():  # one training of a comparison
        advice = f"Remove {path.parent}: the next `resfu compare` trains that network again, and keeps the others."
    elif not others:
        advice = "There is no other in its folder: begin again in another one."
    else:
        advice = f"Take {max(others, key=lambda other: other.stat().st_mtime)} instead."
    return f"the checkpoint {path} {damage}, as after a full disk or a process that was killed in the writing. {advice}"
