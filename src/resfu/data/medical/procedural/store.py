"""Generated volumes on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from resfu.data.medical.volume_files import VolumeFile
from resfu.files.atomic import clear_drafts, replacing

_LEFT_OVER = 3600  # seconds after which nobody is writing a volume any more
Made = tuple[NDArray[np.float32], NDArray[np.uint8]]


class VolumeStore:
    """A folder of volumes, one npz file each, that `VolumeFile` reads.

    A file appears under its name only when it is whole, so several processes may fill one folder at a time and any of
    them may be stopped.

    Args:
        folder: where the files are.
        names: of the volumes, in order; a longer list may begin with a shorter one's.
        depth: D of each.
        make: from the place in `names` to the image, float32 [D, H, W], and the label, uint8.
    """

    def __init__(self, folder: Path, names: list[str], depth: int, make: Callable[[int], Made]) -> None:
        self.make = make
        self.volumes = [VolumeFile(folder / f"{name}.npz", "image", depth) for name in names]

    def fill(self, title: str) -> None:
        """Generate the volumes that are not there, with a progress bar on stderr.

        Args:
            title: what to write before the bar.

        Raises:
            OSError: where the folder cannot be written.
        """
        missing = [index for index, volume in enumerate(self.volumes) if not volume.path.exists()]
        if missing:
            clear_drafts(self.volumes[0].path.parent, _LEFT_OVER)
            for index in track(missing, title, console=Console(stderr=True)):
                self.write(self.volumes[index])

    def write(self, volume: VolumeFile) -> None:
        """Generate one of the volumes, whether it is there or not.

        Raises:
            OSError: where the folder cannot be written.
        """
        image, label = self.make(self.volumes.index(volume))
        path = volume.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"cannot make the cache folder {path.parent} ({error.strerror}); give another by root= or by the "
                "environment variable RESFU_CACHE."
            ) from error
        with replacing(path, durable=False) as draft, draft.open("wb") as file:
            np.savez(file, image=image, label=label)
