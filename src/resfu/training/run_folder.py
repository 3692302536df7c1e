"""Protection of a run's folder while a training works in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer

from resfu.files.atomic import clear_drafts
from resfu.files.lock import locked


@contextmanager
def kept_folder(folder: Path, trainer: Trainer, done: int) -> Iterator[None]:
    """Lock the folder for this training, and restore it if the training fails before its first step.

    Args:
        folder: folder of the run.
        trainer: trainer of the training; only its first process works in the folder.
        done: number of steps in the checkpoint from which the training continues.

    Raises:
        FolderInUseError: if another process trains there.
        OSError: if the folder cannot be written.
    """
    if not trainer.is_global_zero:
        yield
        return
    with locked(folder, "a training", "choose another folder by --run or --output"):
        for place in (folder, folder / "checkpoints"):
            clear_drafts(place)
        before = _entries(folder)
        try:
            yield
        except BaseException:
            if trainer.global_step <= done:
                for entry in _entries(folder) - before:
                    _remove(entry)
            raise


def _entries(folder: Path) -> set[Path]:
    """The files and folders that a training creates there."""
    parts = [folder / "config.yaml", *(folder / name for name in ("logs", "checkpoints"))]
    return {place for part in parts if part.exists() for place in (part, *part.glob("*"))}


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
