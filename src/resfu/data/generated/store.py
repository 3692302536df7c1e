"""Generated samples on disk."""

import os
import random
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resfu.files.atomic import clear_drafts, replacing

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")

THREADS = 2
_LEFT_OVER = 3600  # seconds after which an unfinished file is abandoned
# The errors that a damaged npz file may raise.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, ValueError, OSError)


def default_cache_dir() -> Path:
    """The folder for generated data: the environment variable RESFU_CACHE, else ~/.cache/resfu."""
    return Path(os.environ.get("RESFU_CACHE") or Path.home() / ".cache" / "resfu")


class GeneratedStore:
    """A folder of generated samples, one npz file each.

    A file gets its name only when it is complete. Several processes may fill a folder at once, and any may be stopped.

    Args:
        folder: the folder of the files.
        names: the names of the samples, in order.
        make: from the index of a sample to its arrays.
    """

    def __init__(self, folder: Path, names: Sequence[str], make: Callable[[int], Arrays]) -> None:
        self.make = make
        self.paths = [folder / f"{name}.npz" for name in names]

    def fill(self, title: str) -> None:
        """Generate the missing samples, with a progress bar on stderr.

        Args:
            title: text before the bar.

        Raises:
            OSError: if the folder cannot be written.
        """
        missing = [index for index, path in enumerate(self.paths) if not path.exists()]
        if not missing:
            return
        self._make_folder()
        clear_drafts(self.paths[0].parent, _LEFT_OVER)
        # Processes that fill the same folder share the work by going through it in different orders.
        random.Random(os.getpid()).shuffle(missing)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # numpy and Pillow release the GIL for most of the work, so threads suffice.
        with Progress(*columns, console=Console(stderr=True)) as progress, ThreadPoolExecutor(THREADS) as pool:
            try:
                for _ in progress.track(pool.map(self._write_missing, missing), len(missing), description=title):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def read(self, index: int, convert: Callable[[Arrays], T]) -> T:
        """Read a sample, or generate it again if its file is missing or damaged.

        Args:
            index: index of the sample.
            convert: applied to the arrays; it raises a ValueError if they are not as expected.

        Returns:
            The result of `convert`. A damaged file is replaced, with a warning that names it.

        Raises:
            PermissionError: without permission to read the file.
        """
        path = self.paths[index]
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                return convert(arrays)
        except PermissionError:
            raise
        except FileNotFoundError:
            pass
        except DAMAGE as error:
            warnings.warn(f"{path} is damaged ({error}); it is generated again.", stacklevel=4)
        return convert(self.write(index))

    def write(self, index: int) -> Arrays:
        """Generate a sample, write its file even if one exists, and return its arrays."""
        arrays = self.make(index)
        self._make_folder()
        path = self.paths[index]
        with replacing(path, durable=False) as draft, draft.open("wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        return arrays

    def _write_missing(self, index: int) -> None:
        if not self.paths[index].exists():
            self.write(index)

    def _make_folder(self) -> None:
        folder = self.paths[0].parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"cannot make the cache folder {folder} ({error.strerror}); choose another with root= or the "
                "environment variable RESFU_CACHE."
            ) from error
