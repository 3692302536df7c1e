"""Files that are either whole or not there: written beside their place, and moved there at the end."""

import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PREFIX, _SUFFIX = ".resfu-", ".part"
# What a full disk, a quota, a limit on the size of files or a failing disk says; the path is not in it.
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def replacing(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Give a place to write a file to, and move it to its own when the block ends well.

    Whatever ends the block, the process too, leaves at `path` the new file or what was there before. A link is
    followed. What is no regular file, such as /dev/stdout or a pipe, cannot be moved to and is written directly.

    Args:
        path: of the file; its folder is made where it is not there.
        durable: wait until the file is on the disk, so that a power failure keeps one of the two as well. False for
            what can be made again at any time, such as a cache.

    Yields:
        A path of the same name in a folder beside it, so on the same file system.

    Raises:
        OSError: when it cannot be written, naming `path`.
    """
    if _is_stream(Path(path)):
        yield Path(path)
        return
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder.")
    folder = target.parent / f"{_PREFIX}{secrets.token_hex(6)}{_SUFFIX}"
    draft = folder / target.name
    try:
        folder.mkdir(parents=True)
        yield draft
        if durable:
            flush(draft)
        os.replace(draft, target)
        if durable:
            flush(target.parent)
    except Exception as error:  # a library that writes has its own kinds
        if (named := _named(error, Path(path), folder)) is None:
            raise
        raise named from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_bytes(path: str | Path, content: bytes, durable: bool = True) -> None:
    """Write a file whole or not at all, see `replacing`."""
    with replacing(path, durable) as draft:
        draft.write_bytes(content)


def write_text(path: str | Path, text: str, durable: bool = True) -> None:
    """Write a text file (UTF-8) whole or not at all, see `replacing`."""
    with replacing(path, durable) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, indent: int | None = 1, durable: bool = True) -> None:
    """Write a JSON file whole or not at all, see `replacing`.

    Raises:
        ValueError: for numbers that are not finite, which JSON does not have.
    """
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n", durable)


def read_json(path: Path) -> Any:
    """What `write_json` wrote.

    Raises:
        ValueError: for what is not JSON, naming the file.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, and what it held is made again.") from error


def clear_drafts(folder: Path, older_than: float = 0) -> None:
    """Remove what processes left in a folder that were ended while they wrote a file.

    Args:
        folder: of the files; it need not be there.
        older_than: seconds. Above 0 where another process may be writing at this moment.
    """
    for draft in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):  # another process may have been quicker
            if draft.is_dir() and time.time() - draft.stat().st_mtime >= older_than:
                shutil.rmtree(draft)


def flush(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk."""
    if path.is_dir():
        if os.name == "nt":  # folders cannot be opened there
            return
        handle = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network file systems refuse it for folders
                os.fsync(handle)
        finally:
            os.close(handle)
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _is_stream(path: Path) -> bool:
    if path.parent in (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")):  # /dev/stdout may lead to a file
        return True
    return path.exists() and not path.is_file() and not path.is_dir()


def _named(error: Exception, path: Path, folder: Path) -> OSError | None:
    """The error in terms of the file that was wanted; None for one about something else."""
    # PyTorch hides what the file said in a RuntimeError, HDF5 and safetensors write the number into a text.
    cause = error.__context__ if isinstance(error, RuntimeError) and error.__context__ is not None else error
    told = re.search(r"(?:errno =|os error) (\d+)", str(error))
    number = getattr(cause, "errno", None) or (int(told[1]) if told else None)
    if number not in _WRITING and not (isinstance(error, OSError) and str(folder) in str(error)):
        return None
    reason = str(error).replace(str(folder), str(path.parent)) if number is None else os.strerror(number)
    kept = " What was there before is kept." if path.is_file() else ""
    kind = type(error) if isinstance(error, OSError) else OSError
    named = kind(f"cannot write {path}: {reason}.{kept}")
    named.errno = number
    return named
