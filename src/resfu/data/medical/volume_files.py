"""Files that hold a volume, or one slice of it: npz as TransUNet's training slices, h5 as its test volumes."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resfu.data.image_files import UnreadableFileError

# What damage at different places of a zip or HDF5 file shows as.
DAMAGE = (OSError, EOFError, KeyError, IndexError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class VolumeFile:
    """A file with an image and a label, [D, H, W] each, or [H, W] for a single slice.

    `len(volume)` is D and `volume[i]` a slice of the image: what `predict_volume` takes.

    Args:
        path: .npz, or .h5, of which one slice is read at a time.
        image_key: name of the image in the file; the label's is "label".
        depth: D; 1 for a file with a single slice.
    """

    path: Path
    image_key: str
    depth: int

    @property
    def name(self) -> str:
        """The file's name up to the first dot."""
        return self.path.name.partition(".")[0]

    def slice_name(self, index: int) -> str:
        """What to call a slice."""
        return self.name if self.depth == 1 else f"{self.name}_slice{index:03d}"

    def __len__(self) -> int:
        return self.depth

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """The image of a slice, [H, W].

        Raises:
            UnreadableFileError: naming the file.
        """
        return np.asarray(self._read(self.image_key, index), dtype=np.float32)

    def label(self, index: int) -> NDArray[Any]:
        """The stored label of a slice, [H, W].

        Raises:
            UnreadableFileError: naming the file.
        """
        return self._read("label", index)

    def labels(self) -> NDArray[Any]:
        """The stored labels of the whole volume, [D, H, W].

        Raises:
            UnreadableFileError: naming the file.
        """
        stored = self._read("label", ...)
        return stored if stored.ndim == 3 else stored[None]

    def _read(self, key: str, index: Any) -> NDArray[Any]:
        try:
            if self.path.suffix == ".h5":
                import h5py

                with h5py.File(self.path, "r") as file:
                    return np.asarray(file[key][index])  # pyright: ignore[reportIndexIssue]
            # Given a path, np.load leaves a damaged file open.
            with self.path.open("rb") as opened, np.load(opened) as arrays:
                stored = arrays[key]
                return stored[index] if stored.ndim == 3 else stored
        except DAMAGE as error:
            raise unreadable(self.path, error) from error


def open_volume(path: Path, image_key: str) -> VolumeFile:
    """A volume file, with its depth taken from the file.

    Raises:
        UnreadableFileError: naming the file.
    """
    try:
        if path.suffix == ".h5":
            import h5py

            with h5py.File(path, "r") as file:
                shape = file[image_key].shape  # pyright: ignore[reportAttributeAccessIssue]
        else:
            with path.open("rb") as opened, np.load(opened) as arrays:
                shape = arrays[image_key].shape
        if len(shape) != 3:
            raise ValueError(f"{image_key!r} has the shape {shape}; expected [D, H, W]")
    except DAMAGE as error:
        raise unreadable(path, error) from error
    return VolumeFile(path, image_key, shape[0])


def unreadable(path: Path, error: BaseException) -> UnreadableFileError:
    """What to raise for a file that cannot be read."""
    return UnreadableFileError(f"cannot read the volume {path}: {str(error).rstrip('.') or type(error).__name__}.")
