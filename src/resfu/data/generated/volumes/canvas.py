"""A volume to paint shapes into, each within a bounding box."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resfu.data.generated.volumes.fields import Array, Size, smooth_field, unit_axes

Point = tuple[float, float, float]  # x (image left to right), y (front to back), z (feet to head), -1 to 1
Box = tuple[slice, slice, slice]
Mask = NDArray[np.bool_]

WARP = (0.05, 0.05, 0.1)  # scale of the displacement along x, y, z


@dataclass(frozen=True)
class Ellipsoid:
    """An organ's rough shape.

    Args:
        center: (x, y, z).
        radii: along x, y, z.
        roughness: scale of the fine field's effect on the surface.
    """

    center: Point
    radii: Point
    roughness: float = 0.0

    def jittered(self, rng: np.random.Generator) -> "Ellipsoid":
        """The same organ in another body: slightly moved, and up to an eighth larger or smaller along each axis."""
        center = np.array(self.center) + rng.normal(0, 0.02, 3)
        radii = np.array(self.radii) * rng.uniform(0.88, 1.12, 3)
        return Ellipsoid(tuple(center.tolist()), tuple(radii.tolist()), self.roughness)


class Canvas:
    """The values and labels of a volume of `size` (D, H, W), with warped coordinates that differ for each body."""

    def __init__(self, rng: np.random.Generator, size: Size) -> None:
        self.size = size
        self.axes = unit_axes(size)
        z, y, x = self.axes
        moves = [extent * smooth_field(rng, size, (4, 6, 6)) for extent in WARP]
        self.warped = x + moves[0], y + moves[1], z + moves[2]
        self.fine = smooth_field(rng, size, (10, 26, 26))
        self._reach = [float(np.abs(move).max()) for move in moves]
        self._lowest = float(self.fine.min())
        self.values = np.zeros(size, dtype=np.float32)
        self.label = np.zeros(size, dtype=np.uint8)

    def depth(self, shape: Ellipsoid) -> tuple[Box, Array]:
        """The depth of voxels in a shape: 0 at its centre, 1 at its surface.

        Returns:
            A box that contains all voxels with a depth below 1, and the depth in it.
        """
        # The fine field lowers the depth by at most its lowest value.
        largest = float(np.sqrt(1 + shape.roughness * max(0.0, -self._lowest)))
        box = self.box(shape.center, (shape.radii[0] * largest, shape.radii[1] * largest, shape.radii[2] * largest))
        depth = shape.roughness * self.fine[box]
        for place, center, radius in zip(self.warped, shape.center, shape.radii, strict=True):
            depth += np.square((place[box] - center) / radius)
        return box, depth

    def box(self, center: Point, extent: Point) -> Box:
        """The voxels whose warped coordinates can be within `extent` of a point."""
        ranges = []
        for axis, middle, half, reach in zip(self.axes[::-1], center, extent, self._reach, strict=True):
            places = axis.ravel()
            low, high = middle - half - reach, middle + half + reach
            ranges.append(slice(int(np.searchsorted(places, low)), int(np.searchsorted(places, high, "right"))))
        return ranges[2], ranges[1], ranges[0]

    def paint(self, box: Box, mask: Mask, value: float, texture: float, label: int | None = None) -> None:
        """Set the voxels of a mask.

        Args:
            box: of the mask.
            mask: of the box's shape.
            value: of the tissue.
            texture: amplitude of the fine field in it.
            label: its class; None keeps the label.
        """
        self.values[box][mask] = value + texture * self.fine[box][mask]
        if label is not None:
            self.label[box][mask] = label
