"""The orientation of a scan by its affine, and its reorientation to the axes that a network was trained on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resfu.data.medical.geometry import STORED

OBLIQUE = 5.0  # degrees between an axis and the nearest patient axis; a larger angle gives a warning
TOO_OBLIQUE = 20.0  # the largest rotation in the training's augmentation
FLATTEST = 1e-3  # ratio of a voxel's volume to that of a cuboid with the same sides


class Turn:
    """Reorient volumes from the axes of a file to the requested ones, and back, by permuting and reversing axes.

    Args:
        affine: [4, 4], the file's, from voxels to the patient.
        orientation: see `Geometry`; None is "stored".
        flip: reverse the second axis of the output.

    Raises:
        ValueError: for an affine without a defined orientation, or axes too far from the patient's.
    """

    def __init__(self, affine: NDArray[np.floating[Any]], orientation: str | None, flip: bool) -> None:
        from nibabel.affines import obliquity
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt2axcodes, ornt_transform

        _check(affine)
        found = io_orientation(affine)
        self.axes = "".join(map(str, ornt2axcodes(found)))
        self.kept = orientation in (None, STORED)
        self.tilt = float(np.degrees(obliquity(affine)).max())
        if not self.kept and self.tilt > TOO_OBLIQUE:
            raise ValueError(
                f"its axes are oblique, {self.tilt:.0f} degrees away from the patient's: it cannot be reoriented to "
                f"{orientation}. Resample it to straight axes, or keep the axes of the file with orientation "
                f"{STORED!r} (`resfu predict --data.scan_orientation {STORED}`, `resfu prepare --orientation {STORED}`)"
            )
        wanted = found if self.kept else axcodes2ornt(tuple(str(orientation)))
        # A row for each axis of the file: the axis that it becomes, and -1 if it is reversed.
        self.there = ornt_transform(found, wanted).astype(int)
        if flip:
            self.there[self.there[:, 0] == 1, 1] *= -1
        self.back = np.empty_like(self.there)
        for axis, (becomes, direction) in enumerate(self.there):
            self.back[becomes] = axis, direction
        self.slice_axis = int(self.back[2, 0])  # of the file

    @property
    def in_file_order(self) -> bool:
        """Whether the slices are stored one after the other."""
        return self.slice_axis == 2 and self.there[2, 1] == 1

    def ordered(self, of_axes: Any) -> tuple[Any, Any, Any]:
        """Reorder values of the file's axes to the output's axes."""
        return of_axes[self.back[0, 0]], of_axes[self.back[1, 0]], of_axes[self.back[2, 0]]

    def turned(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Bring a volume from the file's axes to the requested ones; no copy."""
        from nibabel.orientations import apply_orientation

        return apply_orientation(stored, self.there)

    def turned_slice(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Bring a slice across `slice_axis` to the requested axes; no copy."""
        from nibabel.orientations import apply_orientation

        return apply_orientation(stored, np.delete(self.there, self.slice_axis, axis=0))

    def turned_back(self, turned: NDArray[Any]) -> NDArray[Any]:
        """Bring a volume from the requested axes back to the file's; no copy."""
        from nibabel.orientations import apply_orientation

        return apply_orientation(turned, self.back)


def _check(affine: NDArray[np.floating[Any]]) -> None:
    what_to_do = "correct its header, for example by copying that of the original scan"
    if not np.isfinite(affine).all():
        raise ValueError(f"its affine holds NaN or infinity ({_rows(affine)}): {what_to_do}")
    sides = np.sqrt(np.square(affine[:3, :3]).sum(0))
    if not sides.all() or abs(np.linalg.det(affine[:3, :3] / sides)) < FLATTEST:
        raise ValueError(f"its affine has a zero or dependent row ({_rows(affine)}): {what_to_do}")


def _rows(affine: NDArray[np.floating[Any]]) -> str:
    return "; ".join(" ".join(f"{value:g}" for value in row) for row in affine[:3])
