"""Finds checkpoints named on the command line, and turns library errors into messages that a user can act on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resfu.tasks.loading import find_weights
from resfu.tasks.run import RunFolder


def checkpoint_path(given: str, run: str | None) -> Path:
    """The file that "last", "best" or a path stands for.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: for "last" or "best" without a run.
    """
    if given in ("last", "best"):
        if run is None:
            raise ValueError(f"--checkpoint {given} is one of a run: give its folder by --run.")
        folder = RunFolder(Path(run))
        path, place = folder.last if given == "last" else folder.best, folder.path
    else:
        path = place = Path(given)
    if not path.is_file():
        found = [str(file) for file in find_weights(place).values()] if place.is_dir() else []
        there = f" {place} holds {', '.join(found)}." if found else ""
        raise FileNotFoundError(f"there is no checkpoint {path}: give a file, or --run and 'last' or 'best'.{there}")
    return path


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what Lightning and PyTorch raise for a user's mistake into a ValueError."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    try:
        yield
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
    except ModuleNotFoundError as error:
        if error.name is not None:
            raise
        raise ValueError(str(error)) from error  # Lightning's own, for an accelerator that is not there
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            raise
        raise ValueError(f"the checkpoint does not fit the network: {error}") from error
    except ValueError as error:
        # A worker process sends its whole traceback; the user's part is its last line.
        message = str(error).strip().splitlines()
        if message and message[0].startswith("Caught "):
            raise ValueError(message[-1].partition(": ")[2]) from error
        raise
