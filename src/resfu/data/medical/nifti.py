"""NIfTI scans as volumes of slices [x, y] along z."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resfu.data.medical.nonfinite import REFUSED, Nonfinite, as_float32, count_nonfinite, filled
from resfu.data.medical.orientation import OBLIQUE, Turn
from resfu.data.medical.volume_files import unreadable

Window = tuple[float, float]

CT_WINDOW: Window = (-125.0, 275.0)  # TransUNet's, in HU
IN_MM = {"meter": 1000.0, "micron": 0.001}


class NiftiVolume:
    """A scan, read slice by slice or at once, in the order [z, x, y] of the prepared data.

    `len(volume)` is the number of slices and `volume[i]` a slice [x, y], float32, as `predict_volume` expects. Read the
    slices in order: a compressed file is decompressed along the way. A compressed file whose orientation changes the
    order of its slices is kept in memory.

    Args:
        path: .nii or .nii.gz; (x, y, z), or a series of one.
        window: values that become 0 and 1, others are clipped; None: values are not scaled.
        flip: reverse y, as mmsegmentation's converter does and CASCADE's does not.
        orientation: the directions of x, y and z, such as "LAS", see `Geometry`; None or "stored": as in the file. Only
            the order of the voxels changes.
        nonfinite: what to do about NaN or infinite voxels.

    Raises:
        UnreadableFileError: naming a file that cannot be read, that has no volume of numbers, or that has no valid
            affine; at access, with the number of NaN or infinite voxels.
    """

    def __init__(
        self,
        path: str | Path,
        window: Window | None = None,
        flip: bool = False,
        orientation: str | None = None,
        nonfinite: Nonfinite = REFUSED,
    ) -> None:
        import nibabel
        from nibabel.filebasedimages import ImageFileError
        from nibabel.spatialimages import HeaderDataError, HeaderTypeError

        self.path = Path(path)
        self.window = window
        self.flip = flip
        self.nonfinite = nonfinite
        # nibabel's own errors are not ValueErrors; an unknown unit is a KeyError.
        self._damage = (ImageFileError, HeaderDataError, HeaderTypeError, OSError, EOFError, ValueError)
        self._damage += (KeyError, OverflowError, zlib.error)
        try:
            image: Any = nibabel.load(self.path, keep_file_open=True)
            self._proxy = _one_volume(image)
            self._turn = Turn(image.affine, orientation, flip)
            unit = image.header.get_xyzt_units()[0]
        except self._damage as error:
            raise unreadable(self.path, error) from error
        self.affine: NDArray[np.float64] = image.affine
        self.axes = self._turn.axes  # directions of the file's x, y and z, such as "LAS"
        self.file_shape: tuple[int, int, int] = self._proxy.shape
        x, y, z = self._turn.ordered(self.file_shape)
        self.shape: tuple[int, int, int] = (z, x, y)
        sides = np.sqrt(np.square(self.affine[:3, :3]).sum(0)) * IN_MM.get(unit, 1.0)
        self.spacing = tuple(map(float, self._turn.ordered(sides)))  # along the output's x, y and z, in mm
        codes = [int(image.header[key]) for key in ("qform_code", "sform_code")]
        self.doubts = () if self._turn.kept else tuple(_doubts(self.path, self._turn, codes))
        self._memory: NDArray[Any] | None = None
        self._surveyed: tuple[float, float, int] | None = None
        self._reported = False

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """A slice [x, y], scaled.

        Raises:
            UnreadableFileError: naming the file.
        """
        return self._scaled(self._finite(self._slice(range(len(self))[index])))

    def image(self) -> NDArray[np.float32]:
        """The whole volume [z, x, y], scaled.

        Raises:
            UnreadableFileError: naming the file.
        """
        return self._scaled(self._finite(as_float32(self.labels())))

    def labels(self) -> NDArray[Any]:
        """The whole volume [z, x, y], not scaled.

        Raises:
            UnreadableFileError: naming the file.
        """
        return np.ascontiguousarray(np.moveaxis(self._turn.turned(self._read(...)), -1, 0))

    def finite_range(self) -> Window:
        """The smallest and the largest finite value; it keeps one slice in memory.

        Raises:
            UnreadableFileError: naming the file.
        """
        low, high, count = self._survey()
        self._report(count, low)
        return low, high

    def as_stored(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Bring a volume [z, x, y] from this one's axes back to the file's; no copy."""
        return np.moveaxis(self._turn.turned_back(np.moveaxis(labels, 0, -1)), -1, 0)

    def _slice(self, place: int) -> NDArray[np.float32]:
        axis = self._turn.slice_axis
        if self._turn.there[axis, 1] == -1:
            place = len(self) - 1 - place
        return as_float32(np.ascontiguousarray(self._turn.turned_slice(self._read((slice(None),) * axis + (place,)))))

    def _read(self, place: Any) -> NDArray[Any]:
        try:
            if self._turn.in_file_order or self.path.suffix.lower() != ".gz":
                return np.asarray(self._proxy[place])
            from nibabel.volumeutils import apply_read_scaling

            if self._memory is None:
                self._memory = np.asarray(self._proxy.get_unscaled())
            return np.asarray(apply_read_scaling(self._memory[place], self._proxy.slope, self._proxy.inter))
        except self._damage as error:
            raise unreadable(self.path, error) from error

    def _survey(self) -> tuple[float, float, int]:
        """The smallest and the largest finite value, and the number of values that are not finite."""
        if self._surveyed is None:
            low, high, count = float("inf"), float("-inf"), 0
            for place in range(len(self)):
                values = self._slice(place)
                finite = values[np.isfinite(values)]
                count += values.size - finite.size
                low = min(low, float(finite.min(initial=np.inf)))
                high = max(high, float(finite.max(initial=-np.inf)))
            if low > high:
                raise unreadable(self.path, ValueError("all its voxels are NaN or infinite"))
            self._surveyed = low, high, count
        return self._surveyed

    def _finite(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if not count_nonfinite(values):
            return values
        low, _, count = self._survey()
        return filled(values, self._report(count, low))

    def _report(self, count: int, low: float) -> float:
        """Report such voxels once; return the value to fill in."""
        value = self.nonfinite.value
        if value is None:
            value = low if self.window is None else self.window[0]
        if count and not self._reported:
            self.nonfinite.found(self.path, count, int(np.prod(self.shape)), value)
            self._reported = True
        return value

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


def _one_volume(image: Any) -> Any:
    """The voxels (x, y, z) of an image, not read yet.

    Raises:
        ValueError: for a series, a 2D image, an empty volume, or voxels that are not real numbers.
    """
    from nibabel.nifti1 import Nifti1Pair

    if not issubclass(type(image), Nifti1Pair):
        raise ValueError(f"it is {type(image).__name__}; expected NIfTI")
    shape, kind = image.shape, image.get_data_dtype()
    if len(shape) < 3 or min(shape) < 1:
        raise ValueError(f"its shape is {shape}; expected (x, y, z)")
    if any(length > 1 for length in shape[3:]):
        raise ValueError(
            f"its shape is {shape}, a series of volumes; expected (x, y, z): save each volume to its own file "
            "(nibabel.four_to_three)"
        )
    if kind.kind not in "biuf":
        what = "RGB colours" if kind.names else f"values of the type {kind}"
        raise ValueError(f"its voxels are {what}; expected one real number each: save the scan's original values")
    return image.dataobj if len(shape) == 3 else image.dataobj.reshape(shape[:3])


def _doubts(path: Path, turn: Turn, codes: list[int]) -> list[str]:
    """Warnings about the orientation of a readable scan."""
    doubts = []
    if not any(codes):
        doubts.append(
            f"{path} gives no orientation (qform_code and sform_code are 0): its axes are assumed to be {turn.axes}."
        )
    if turn.tilt > OBLIQUE:
        doubts.append(
            f"the axes of {path} are oblique, {turn.tilt:.0f} degrees away from the patient's: the nearest are used."
        )
    return doubts
