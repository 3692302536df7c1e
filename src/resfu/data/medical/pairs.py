"""A raw scan and its label, brought to the axes and the spacing that the prepared data have."""

import itertools
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resfu.data.medical.geometry import Geometry
from resfu.data.medical.label_maps import LabelMap, to_classes
from resfu.data.medical.nifti import NiftiVolume
from resfu.data.medical.nonfinite import Nonfinite
from resfu.data.medical.resampling import ResampledVolume
from resfu.data.unreadable import OnError, UnreadableFileError

SAME = 0.1  # of the shortest side of a voxel: headers of one grid that were written by two programs


@dataclass(frozen=True)
class PairReader:
    """Reads the NIfTI files of a scan and its label.

    Args:
        labels: from stored ids to classes.
        geometry: to bring both to.
        flip: reverse the last axis then.
        nonfinite: what to do about voxels of the image that are NaN or infinite.
        on_mismatch: what a label leads to that lies elsewhere in the patient than its image, though it has its shape
            and axes: "raise", or "warn" and take voxel for voxel.

    Raises:
        ValueError: for another `on_mismatch`.
    """

    labels: LabelMap
    geometry: Geometry
    flip: bool
    nonfinite: Nonfinite
    on_mismatch: Literal["raise", "warn"]

    def __post_init__(self) -> None:
        if self.on_mismatch not in ("raise", "warn"):
            raise ValueError(f"on_mismatch must be 'raise' or 'warn', got {self.on_mismatch!r}.")

    def read(self, image: Path, label: Path) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """The values and the classes, [z, x, y] both.

        Raises:
            UnreadableFileError: for a damaged file, and for files that do not lie alike, naming them.
            ValueError: for ids that are not in the map, naming the file.
        """
        orientation = self.geometry.orientation
        scan = NiftiVolume(image, flip=self.flip, orientation=orientation, nonfinite=self.nonfinite)
        mask = NiftiVolume(label, flip=self.flip, orientation=orientation)
        for doubt in scan.doubts:
            warnings.warn(doubt, stacklevel=2)
        self._check_grid(scan, mask)
        classes = to_classes(mask.labels(), self.labels, label, "Give the map of these files by labels.")
        if self.geometry.spacing is None:
            return scan.image(), classes
        resampled = ResampledVolume(scan, self.geometry.spacing)
        return resampled.image(), resampled.labels_here(classes)

    def _check_grid(self, image: NiftiVolume, label: NiftiVolume) -> None:
        if image.shape != label.shape or image.axes != label.axes:
            raise UnreadableFileError(
                f"{image.path} is {image.shape} with the axes {image.axes}, its label {label.path} {label.shape} with "
                f"{label.axes}: voxels would not meet. Bring one to the grid of the other."
            )
        corners = np.array([(*corner, 1) for corner in itertools.product(*((0, n - 1) for n in image.file_shape))])
        apart = np.linalg.norm(corners @ (image.affine - label.affine).T, axis=1).max()
        sides = np.sqrt(np.square(image.affine[:3, :3]).sum(0))
        if apart <= SAME * sides.min():
            return
        places = [f"origin {_numbers(v.affine[:3, 3])} and spacing {_numbers(v.spacing)}" for v in (image, label)]
        message = (
            f"the label {label.path} lies up to {apart:.1f} mm away from its image {image.path}: {places[1]}, where "
            f"the image has {places[0]}"
        )
        if self.on_mismatch == "raise":
            raise UnreadableFileError(
                f"{message}. Bring one to the grid of the other; if their voxels do meet and one header is wrong, copy "
                "the other's, or take them voxel for voxel by on_mismatch='warn' (--on-mismatch warn)."
            )
        warnings.warn(f"{message}: they are taken voxel for voxel.", stacklevel=3)


def settled(geometry: Geometry, images: Iterable[Path], assumed: Geometry, on_error: OnError) -> Geometry:
    """The geometry with an orientation: without one, the axes of the first scan that can be read, so that files of one
    orientation are stored as they are; or the data set's own, where these would not give axial slices.

    Args:
        geometry: that is asked for.
        images: the scans, in order.
        assumed: of the data set.
        on_error: "raise", or "skip": go on to the next, as reading will.

    Raises:
        UnreadableFileError: with "raise", for a first scan that cannot be read.
    """
    if geometry.orientation is not None:
        return geometry
    for path in images:
        try:
            axes = NiftiVolume(path).axes
        except UnreadableFileError:
            if on_error == "raise":
                raise
            continue
        return geometry.over(Geometry(axes) if axes[2] in "IS" else assumed)
    return geometry.over(assumed)


def _numbers(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
