"""Folders that are either filled to the end or left as they were."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from resfu.files.atomic import flush
from resfu.files.lock import LOCK, locked

_DRAFT = ".resfu-unfinished"


@contextmanager
def filled(root: str | Path, command: str, last: Sequence[str] = ()) -> Iterator[Path]:
    """Give a place to write what is to go into a new or empty folder, and move it there when the block ends well.

    A block that fails leaves nothing. What a process left that was ended in the middle is removed by the next one.

    Args:
        root: the folder, made where it is not there.
        command: what fills it, for the message to another process that wants to.
        last: names of entries that come after all others: where they are, the rest is there too.

    Yields:
        An empty folder inside it, so on the same file system.

    Raises:
        ValueError: for a folder that holds something, or that another process is filling.
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
            # Checked once more: the block may have taken an hour.
            check_empty(folder)
            for file in sorted(draft.rglob("*")):
                flush(file)
            for entry in sorted(draft.iterdir(), key=lambda entry: (entry.name in last, entry.name)):
                entry.rename(folder / entry.name)
            flush(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def check_empty(folder: Path) -> None:
    """Refuse a folder that holds something; one that is not there is empty.

    Raises:
        ValueError: for such a folder, or a file.
    """
    if folder.exists() and not (folder.is_dir() and all(entry.name in (LOCK, _DRAFT) for entry in folder.iterdir())):
        raise ValueError(f"{folder} holds something already: give a new folder, or empty it.")
