"""A folder for one process at a time."""

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
    """Another process works in a folder; the message says which, and what to do."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a folder.

    Args:
        pid: its number.
        started: when it started, in the clock of its kernel; a number is given again after its process has ended.
        host: its machine.
        namespace: where `pid` counts: in two containers of one name it does not mean the same.
        command: what it does, in words.
        since: when it took the folder.
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
        """Whether it still runs; None where that cannot be seen from here."""
        if (self.host, self.namespace) != (socket.gethostname(), _namespace()) or sys.platform == "win32":
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it runs, as another user's
            pass
        return _started(self.pid) in (self.started, None)


@contextmanager
def locked(folder: str | Path, command: str, otherwise: str = "choose another folder") -> Iterator[None]:
    """Keep a folder to this process until the block ends.

    The folder is made where it is not there, and removed again where nothing has come into it. The lock of a process
    that has ended on this machine is taken over.

    Args:
        folder: to work in.
        command: what this process does there, for the message to another one.
        otherwise: what the user can do instead of waiting, for the message of this one.

    Raises:
        FolderInUseError: where another process holds the folder, or one on another machine may.
        OSError: where the folder cannot be made or written.
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
        with suppress(OSError):  # there is something in it
            for place in made:
                place.rmdir()


def _take(folder: Path, owner: Owner, otherwise: str) -> None:
    file = folder / LOCK
    while True:
        with _open_alone(file) as handle:
            if not _is_at(handle, file):  # given back while this process waited for it
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
    """Open the file while no other process has it open so: two must not take over the same lock at a time."""
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
    """Who is in the file; None where its writer did not come to write it."""
    try:
        return Owner(**json.loads(os.read(handle, 1 << 16)))
    except (ValueError, TypeError):
        return None


def _write(handle: int, file: Path, owner: Owner) -> None:
    content = json.dumps(asdict(owner)).encode()
    try:
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        if os.write(handle, content) < len(content):  # half a name would be taken for none
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
    """When a process started, "" for one that has ended and was not waited for; None where that is not told."""
    try:
        # The name of the program, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        return None


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
