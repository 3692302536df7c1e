"""Files that are written completely or not at all: they are written next to their place, and moved there at the end."""

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
# Error numbers of a full disk, a quota, a limit on file sizes and a failing disk; their messages do not name the path.
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def replacing(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path for a file, and move the file to `path` when the block ends without an error.

    However the block ends, even if the process is killed, `path` has either the new file or its previous content. Links
    are followed. If `path` is not a regular file but, for example, /dev/stdout or a pipe, it is written directly.

    Args:
        path: path of the file; its folder is created if needed.
        durable: wait until the file is on the disk, so that one of the two versions also survives a power failure.
            False for files that can be made again at any time, such as a cache.

    Yields:
        A path with the same file name in a folder next to it, so on the same file system.

    Raises:
        OSError: when it cannot be written; the message names `path`.
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
        if target.exists():
            shutil.copymode(target, draft)
        os.replace(draft, target)
        if durable:
            flush(target.parent)
    except Exception as error:  # libraries raise their own classes of errors
        if (named := _named(error, Path(path), folder)) is None:
            raise
        raise named from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_bytes(path: str | Path, content: bytes, durable: bool = True) -> None:
    """Write a file completely or not at all, see `replacing`."""
    with replacing(path, durable) as draft:
        draft.write_bytes(content)


def write_text(path: str | Path, text: str, durable: bool = True) -> None:
    """Write a text file (UTF-8) completely or not at all, see `replacing`."""
    with replacing(path, durable) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, indent: int | None = 1, durable: bool = True) -> None:
    """Write a JSON file completely or not at all, see `replacing`.

    Raises:
        ValueError: for numbers that are not finite, which JSON does not support.
    """
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n", durable)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: for a file that is not JSON; the message names it.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, and what it held is made again.") from error


def clear_drafts(folder: Path, older_than: float = 0) -> None:
    """Remove temporary files in a folder that were left by processes which were killed while writing.

    Args:
        folder: folder of the files; it need not exist.
        older_than: age in seconds. Use a value above 0 if another process may be writing at the moment.
    """
    for draft in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):  # another process may have removed it
            if draft.is_dir() and time.time() - draft.stat().st_mtime >= older_than:
                shutil.rmtree(draft)


def flush(path: Path) -> None:
    """Wait until a file, or the list of entries of a folder, is on the disk."""
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
    """The error with a message about the file at `path`; None for an error about something else."""
    # PyTorch raises a RuntimeError whose context is the original error. HDF5 and safetensors write the error number
    # into a text.
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
