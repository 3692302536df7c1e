"""A lock on a folder, in which only one process may work at a time."""

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

if sys.platform != "win32":
    import fcntl

LOCK = ".resfu.lock"


class FolderInUseError(ValueError):
    """Another process works in the folder; the message says which one, and what to do."""


@dataclass(frozen=True)
class Owner:
    """The process that holds the lock of a folder.

    Args:
        pid: process id.
        started: start time by the kernel's clock, because process ids are used again after a process has ended.
        host: name of the machine.
        namespace: namespace of the process id: containers with the same host name can have different ones.
        command: what the process does, in words.
        since: time at which it took the lock.
    """

    pid: int
    started: str
    host: str
    namespace: str
    command: str
    since: str

    @classmethod
    def here(cls, command: str) -> "Owner":
        """This process."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(os.getpid(), _started(os.getpid()) or "", socket.gethostname(), _namespace(), command, now)

    @property
    def alive(self) -> bool | None:
        """Whether the process still runs; None if this cannot be determined from here."""
        if (self.host, self.namespace) != (socket.gethostname(), _namespace()) or sys.platform == "win32":
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it runs, but belongs to another user
            pass
        return _started(self.pid) in (self.started, None)


@contextmanager
def locked(folder: str | Path, command: str, otherwise: str = "choose another folder") -> Iterator[None]:
    """Lock a folder for this process until the block ends.

    The folder is created if needed, and removed again if it is still empty. A lock of a process on this machine that
    has ended is taken over.

    Args:
        folder: the folder.
        command: what this process does there, for the message to other processes.
        otherwise: what the user can do instead of waiting, for this process's error message.

    Raises:
        FolderInUseError: if another process holds the lock, or a process on another machine may hold it.
        OSError: if the folder cannot be created or written.
    """
    folder = Path(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"cannot make the folder {folder} ({error.strerror}): {otherwise}.") from error
    owner = Owner.here(command)
    try:
        _take(folder, owner, otherwise)
        try:
            yield
        finally:
            _give_back(folder / LOCK, owner)
    finally:
        with suppress(OSError):  # it is not empty
            for place in made:
                place.rmdir()


def _take(folder: Path, owner: Owner, otherwise: str) -> None:
    file = folder / LOCK
    while True:
        with _open_alone(file) as handle:
            if not _is_at(handle, file):  # the lock was released while this process waited
                continue
            other = _read(handle)
            if other is not None and other.alive is not False:
                raise FolderInUseError(_refusal(folder, other, otherwise))
            _write(handle, file, owner)
            return


def _give_back(file: Path, owner: Owner) -> None:
    with suppress(OSError):  # the folder may be gone
        if not file.exists():
            return
        with _open_alone(file) as handle:
            ours = _is_at(handle, file) and _read(handle) == owner
            if ours and sys.platform != "win32":
                file.unlink()
        if ours and sys.platform == "win32":  # where an open file cannot be removed
            file.unlink()


@contextmanager
def _open_alone(file: Path) -> Iterator[int]:
    """Open the file exclusively, so that two processes cannot take over the same lock at the same time."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if sys.platform != "win32":
            with suppress(OSError):  # a file system without such locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _is_at(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def _read(handle: int) -> Owner | None:
    """The owner in the file; None if the process ended before it wrote it."""
    try:
        return Owner(**json.loads(os.read(handle, 1 << 16)))
    except (ValueError, TypeError):
        return None


def _write(handle: int, file: Path, owner: Owner) -> None:
    content = json.dumps(asdict(owner)).encode()
    try:
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        if os.write(handle, content) < len(content):  # an incomplete owner would count as none
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        file.unlink(missing_ok=True)
        raise OSError(f"cannot write {file}: {error.strerror}.") from error


def _refusal(folder: Path, other: Owner, otherwise: str) -> str:
    who = f"`{other.command}` (process {other.pid} on {other.host}, since {other.since})"
    if other.alive:
        return f"{folder} is in use by {who}: wait for its end, or {otherwise}."
    return (
        f"{folder} was taken by {who}; from this machine ({socket.gethostname()}) it cannot be seen whether that still "
        f"runs. If it does, {otherwise}; if it does not, remove {folder / LOCK}."
    )


def _started(pid: int) -> str | None:
    """The start time of a process; "" for a zombie, None if it is unknown."""
    try:
        # The name of the program, in parentheses, may contain any characters.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        return None


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
