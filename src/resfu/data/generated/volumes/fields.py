"""The parts that the CT and the cardiac generator share: axes, smooth random fields, a scanner's blur."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from resfu.ops.checks import are_ints

Array = NDArray[np.float32]
Size = tuple[int, int, int]


def unit_axes(size: Size) -> tuple[Array, Array, Array]:
    """Coordinates -1 to 1 along z, y and x, shaped to be broadcast to [D, H, W]."""
    z, y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in size)
    return z[:, None, None], y[None, :, None], x[None, None, :]


def smooth_field(rng: np.random.Generator, size: Size, cells: Sequence[int]) -> Array:
    """A smooth random field: normally distributed numbers at the corners of coarse cells, interpolated in between.

    Args:
        rng: source of the numbers.
        size: (D, H, W).
        cells: number of coarse cells along each axis.

    Returns:
        [D, H, W]; mean 0, standard deviation below 1.
    """
    field = rng.standard_normal([count + 1 for count in cells], dtype=np.float32)
    for axis, length in enumerate(size):
        place = np.linspace(0, cells[axis], length)
        low = np.minimum(place.astype(int), cells[axis] - 1)
        share = place - low
        share = share * share * (3 - 2 * share)  # zero slope at the corners, which hides the cells
        weight = share.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        start = field.take(low, axis)
        field = start + weight * (field.take(low + 1, axis) - start)
    return np.asarray(field, dtype=np.float32)


def blur_in_plane(values: Array) -> None:
    """Blend each pixel with its four neighbours in the slice, in place: voxels at a boundary mix both sides."""
    sides = values[:, :-2, 1:-1] + values[:, 2:, 1:-1] + values[:, 1:-1, :-2] + values[:, 1:-1, 2:]
    values[:, 1:-1, 1:-1] *= 0.5
    values[:, 1:-1, 1:-1] += 0.125 * sides


def checked_volume_size(size: Sequence[int], least: Size) -> Size:
    """(D, H, W) as a tuple; a ValueError unless these are three whole numbers of at least `least`."""
    if not are_ints(size, 3) or any(n < low for n, low in zip(size, least, strict=True)):
        raise ValueError(f"size must be (D, H, W), whole numbers of at least {least}; got {size!r}.")
    return size[0], size[1], size[2]
