"""Generated scenes on disk."""

import os
import random
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resfu.data.scenes.render import Scene
from resfu.files.atomic import clear_drafts, replacing

THREADS = 2
_LEFT_OVER = 3600  # seconds after which nobody is writing a scene any more


def default_cache_dir() -> Path:
    """Where generated data go: the environment variable RESFU_CACHE, else ~/.cache/resfu."""
    return Path(os.environ.get("RESFU_CACHE") or Path.home() / ".cache" / "resfu")


class SceneStore:
    """A folder of scenes, one file each, filled on demand.

    A file appears under its name only when it is whole, so several processes may fill one folder at a time and
    any of them may be stopped.

    Args:
        folder: where the files are.
        size: (H, W) of the scenes.
        make: from an index to its scene.
    """

    def __init__(self, folder: Path, size: tuple[int, int], make: Callable[[int], Scene]) -> None:
        self.folder = folder
        self.size = size
        self.make = make

    def path(self, index: int) -> Path:
        """The file of a scene."""
        return self.folder / f"{index:06d}.npz"

    def fill(self, count: int, title: str) -> None:
        """Generate those of the first `count` scenes that are not there, with a progress bar on stderr.

        Args:
            count: number of scenes wanted.
            title: what to write before the bar.

        Raises:
            OSError: where the folder cannot be written.
        """
        missing = [index for index in range(count) if not self.path(index).exists()]
        if not missing:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"cannot make the cache folder {self.folder} ({error.strerror}); give another by root= or by the "
                "environment variable RESFU_CACHE."
            ) from error
        clear_drafts(self.folder, _LEFT_OVER)
        # Processes that fill the same folder go through it in different orders and so share the work.
        random.Random(os.getpid()).shuffle(missing)
        self._generate(missing, title)

    def _generate(self, indices: Sequence[int], title: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # numpy and Pillow let go of the interpreter lock for most of the work, so threads serve as well as processes.
        with Progress(*columns, console=Console(stderr=True)) as progress, ThreadPoolExecutor(THREADS) as pool:
            try:
                for _ in progress.track(pool.map(self._generate_one, indices), len(indices), description=title):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _generate_one(self, index: int) -> None:
        if not self.path(index).exists():
            self._write(index, self.make(index))

    def read(self, index: int) -> Scene:
        """Read a scene, or generate it again where its file is gone or damaged.

        Args:
            index: of the scene.

        Returns:
            The scene. A damaged file is replaced, with a warning that names it.

        Raises:
            PermissionError: where the file may not be read.
        """
        path = self.path(index)
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                scene = Scene(arrays["image"], arrays["ids"], arrays["categories"])
            if scene.image.shape != (*self.size, 3) or scene.ids.shape != self.size:
                raise ValueError(f"expected the size {self.size}, got {scene.image.shape} and {scene.ids.shape}.")
            return scene
        except PermissionError:
            raise
        except FileNotFoundError:
            pass
        # Damage at different places of a zip file shows as any of these.
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, ValueError, OSError) as error:
            warnings.warn(f"{path} is damaged ({error}); it is generated again.", stacklevel=4)
        scene = self.make(index)
        self._write(index, scene)
        return scene

    def _write(self, index: int, scene: Scene) -> None:
        with replacing(self.path(index), durable=False) as draft, draft.open("wb") as file:
            np.savez(file, image=scene.image, ids=scene.ids, categories=scene.categories)
