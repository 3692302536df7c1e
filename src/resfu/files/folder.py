"""Folders that are filled completely or not at all."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from resfu.files.atomic import flush
from resfu.files.lock import LOCK, locked

_DRAFT = ".resfu-unfinished"


@contextmanager
def filled(root: str | Path, command: str, last: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder, and move its content to a new or empty folder when the block ends without an error.

    If the block fails, nothing is left. Files left by a process that was killed are removed by the next one.

    Args:
        root: the folder; it is created if needed.
        command: the command that fills the folder, for the message to another process.
        last: names of entries that are moved last: if they exist, all others exist too.

    Yields:
        An empty folder inside `root`, so on the same file system.

    Raises:
        ValueError: for a folder that is not empty, or that another process is filling.
        OSError: when it cannot be written.
    """
    folder = Path(root)
    check_empty(folder)
    with locked(folder, command, "give another folder"):
        draft = folder / _DRAFT
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        try:
            yield draft
            # Checked again, because the block may have taken an hour.
            check_empty(folder)
            for file in sorted(draft.rglob("*")):
                flush(file)
            for entry in sorted(draft.iterdir(), key=lambda entry: (entry.name in last, entry.name)):
                entry.rename(folder / entry.name)
            flush(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def check_empty(folder: Path) -> None:
    """Refuse a folder that is not empty; a folder that does not exist is accepted.

    Raises:
        ValueError: for a folder that is not empty, or a file.
    """
    if folder.exists() and not (folder.is_dir() and all(entry.name in (LOCK, _DRAFT) for entry in folder.iterdir())):
        raise ValueError(f"{folder} holds something already: give a new folder, or empty it.")
