"""Files with a volume or one slice: npz like TransUNet's training slices, h5 like its test volumes."""

import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resfu.data.image_files import UnreadableFileError
from resfu.data.medical.nonfinite import REFUSED, Nonfinite, as_float32, count_nonfinite, filled

# The errors that a damaged zip or HDF5 file may raise.
DAMAGE = (OSError, EOFError, KeyError, IndexError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class VolumeFile:
    """A file with an image and a label, [D, H, W] each, or [H, W] for a single slice.

    `len(volume)` is D and `volume[i]` a slice of the image, as `predict_volume` expects.

    Args:
        path: .npz, or .h5, which is read slice by slice.
        image_key: name of the image in the file; the label's is "label".
        depth: D; 1 for a file with a single slice.
        nonfinite: what to do about NaN or infinite voxels of the image.
    """

    path: Path
    image_key: str
    depth: int
    nonfinite: Nonfinite = REFUSED

    @property
    def name(self) -> str:
        """The file's name up to the first dot."""
        return self.path.name.partition(".")[0]

    def slice_name(self, index: int) -> str:
        """The name of a slice."""
        return self.name if self.depth == 1 else f"{self.name}_slice{index:03d}"

    def __len__(self) -> int:
        return self.depth

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """The image of a slice, [H, W].

        Raises:
            UnreadableFileError: naming the file.
        """
        pixels = as_float32(self._real(index))
        if count := count_nonfinite(pixels):
            total, value = pixels.size, self.nonfinite.value or 0.0
            if self.nonfinite.action == "error":
                whole = as_float32(self._real(...))
                count, total = count_nonfinite(whole), whole.size
            self.nonfinite.found(self.path, count, total, value)
            pixels = filled(pixels, value)
        return pixels

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

    def _real(self, index: Any) -> NDArray[Any]:
        stored = self._read(self.image_key, index)
        if stored.dtype.kind not in "biuf":
            raise unreadable(self.path, ValueError(f"its voxels are {stored.dtype}; expected one real number each"))
        return stored

    def _read(self, key: str, index: Any) -> NDArray[Any]:
        try:
            if is_h5(self.path):
                import h5py

                with h5py.File(self.path, "r") as file:
                    return np.asarray(file[key][index])  # pyright: ignore[reportIndexIssue]
            stored = _array(self.path, self.path.stat().st_mtime_ns, key)
            return np.copy(stored[index] if stored.ndim == 3 else stored)
        except DAMAGE as error:
            raise unreadable(self.path, error) from error


@lru_cache(maxsize=2)  # the voxels and labels of one volume, which are read slice by slice and only unpacked as a whole
def _array(path: Path, written: int, key: str) -> NDArray[Any]:
    # np.load(path) would leave a damaged file open.
    with path.open("rb") as opened, np.load(opened) as arrays:
        return arrays[key]


def open_volume(path: Path, image_key: str, nonfinite: Nonfinite = REFUSED) -> VolumeFile:
    """Open a volume file and read its depth.

    Raises:
        UnreadableFileError: naming the file.
    """
    try:
        if is_h5(path):
            import h5py

            with h5py.File(path, "r") as file:
                shape = file[image_key].shape  # pyright: ignore[reportAttributeAccessIssue]
        else:
            shape = _array(path, path.stat().st_mtime_ns, image_key).shape
        if len(shape) != 3:
            raise ValueError(f"{image_key!r} has shape {shape}; expected [D, H, W]")
    except DAMAGE as error:
        raise unreadable(path, error) from error
    return VolumeFile(path, image_key, shape[0], nonfinite)


def is_h5(path: Path) -> bool:
    """Whether a file's name is that of an HDF5 file."""
    return path.suffix.lower() == ".h5"


def unreadable(path: Path, error: BaseException) -> UnreadableFileError:
    """The error for a file that cannot be read."""
    return UnreadableFileError(f"cannot read the volume {path}: {str(error).rstrip('.') or type(error).__name__}.")
