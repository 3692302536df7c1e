"""NIfTI scans as volumes of slices [x, y] along z."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resfu.data.medical.volume_files import unreadable

Window = tuple[float, float]

CT_WINDOW: Window = (-125.0, 275.0)  # HU that TransUNet keeps


class NiftiVolume:
    """A scan, read slice by slice or at once, in the order [z, x, y] that the prepared data have.

    `len(volume)` is the number of slices and `volume[i]` a slice [x, y], float32: what `predict_volume` takes. A
    compressed file is unpacked as it is read on, so go through the slices in order.

    Args:
        path: .nii or .nii.gz.
        window: values that become 0 and 1, those outside are clipped; None: as they are.
        flip: reverse y, as mmsegmentation's converter does and CASCADE's does not.

    Raises:
        UnreadableFileError: naming a file that cannot be read, or that holds no volume.
    """

    def __init__(self, path: str | Path, window: Window | None = None, flip: bool = False) -> None:
        import nibabel
        from nibabel.filebasedimages import ImageFileError

        self.path = Path(path)
        self.window = window
        self.flip = flip
        self._damage = (ImageFileError, OSError, EOFError, ValueError, zlib.error)
        try:
            image: Any = nibabel.load(self.path, keep_file_open=True)
            if len(image.shape) != 3:
                raise ValueError(f"its shape is {image.shape}; expected (x, y, z)")
        except self._damage as error:
            raise unreadable(self.path, error) from error
        self.affine: NDArray[np.float64] = image.affine
        self.axes = "".join(nibabel.aff2axcodes(image.affine))  # such as "LAS": where x, y and z point
        x, y, z = image.shape
        self.shape = (z, x, y)
        self._proxy = image.dataobj

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """A slice [x, y], scaled.

        Raises:
            UnreadableFileError: naming the file.
        """
        return self._scaled(self._read((..., index)).astype(np.float32))

    def image(self) -> NDArray[np.float32]:
        """The whole volume [z, x, y], scaled.

        Raises:
            UnreadableFileError: naming the file.
        """
        return self._scaled(self._read(...).astype(np.float32))

    def labels(self) -> NDArray[Any]:
        """The whole volume [z, x, y] as it is stored.

        Raises:
            UnreadableFileError: naming the file.
        """
        return self._read(...)

    def _read(self, place: Any) -> NDArray[Any]:
        try:
            stored = np.asarray(self._proxy[place])
        except self._damage as error:
            raise unreadable(self.path, error) from error
        ordered = np.moveaxis(stored, -1, 0) if stored.ndim == 3 else stored
        return np.ascontiguousarray(ordered[..., ::-1] if self.flip else ordered)

    def _scaled(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values if self.window is None else scale_window(values, self.window)


def scale_window(values: NDArray[Any], window: Window = CT_WINDOW) -> NDArray[np.float32]:
    """Clip values to a window and scale it to 0..1, float32.

    Raises:
        ValueError: unless the window is (low, high) with low < high.
    """
    low, high = window
    if not low < high:
        raise ValueError(f"a window is (low, high) with low < high, got {window}.")
    return ((np.clip(values, low, high) - low) / (high - low)).astype(np.float32)
