"""Read a raw scan and its label with the orientation and spacing of the prepared data."""

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

SAME = 0.1  # of a voxel's shortest side: tolerance for two programs' headers of the same grid


@dataclass(frozen=True)
class PairReader:
    """Reads the NIfTI files of a scan and its label.

    Args:
        labels: from stored ids to classes.
        geometry: of the output.
        flip: reverse the last axis of the output.
        nonfinite: what to do about NaN or infinite voxels of the image.
        on_mismatch: what to do if a label has its image's shape and axes but another position in the patient: "raise",
            or "warn" and match them voxel by voxel.

    Raises:
        ValueError: for an unknown `on_mismatch`.
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
        """The values and the classes, both [z, x, y].

        Raises:
            UnreadableFileError: naming a damaged file, or two files on different grids.
            ValueError: naming a file with ids that are not in the map.
        """
        orientation = self.geometry.orientation
        scan = NiftiVolume(image, flip=self.flip, orientation=orientation, nonfinite=self.nonfinite)
        mask = NiftiVolume(label, flip=self.flip, orientation=orientation)
        for doubt in scan.doubts:
            warnings.warn(doubt, stacklevel=2)
        self._check_grid(scan, mask)
        classes = to_classes(mask.labels(), self.labels, label, "Give the map for these files as labels.")
        if self.geometry.spacing is None:
            return scan.image(), classes
        resampled = ResampledVolume(scan, self.geometry.spacing)
        return resampled.image(), resampled.labels_here(classes)

    def _check_grid(self, image: NiftiVolume, label: NiftiVolume) -> None:
        if image.shape != label.shape or image.axes != label.axes:
            raise UnreadableFileError(
                f"{image.path} is {image.shape} with the axes {image.axes}, but its label {label.path} {label.shape} "
                f"with {label.axes}: their voxels do not match. Resample one to the grid of the other."
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
                f"{message}. Resample one to the grid of the other. If their voxels do match and one header is wrong, "
                "copy the other's, or match them voxel by voxel with on_mismatch='warn' (--on-mismatch warn)."
            )
        warnings.warn(f"{message}: they are matched voxel by voxel.", stacklevel=3)


def settled(geometry: Geometry, images: Iterable[Path], assumed: Geometry, on_error: OnError) -> Geometry:
    """Choose the orientation if `geometry` has none: the axes of the first readable scan, which are then kept; but the
    data set's own if those do not give axial slices.

    Args:
        geometry: the requested one.
        images: the scans, in order.
        assumed: the data set's.
        on_error: "raise", or "skip": try the next scan.

    Raises:
        UnreadableFileError: with "raise", if the first scan cannot be read.
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
