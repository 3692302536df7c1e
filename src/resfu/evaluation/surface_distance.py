"""Dice and the 95th percentile of the surface distance of two binary volumes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, find_objects
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
Box = tuple[slice, ...]

# Above this share of surface voxels in the box, a distance transform is faster than a search tree.
DENSE_SURFACE = 0.25


def dice(first: ArrayLike, second: ArrayLike) -> float:
    """Dice coefficient 2 |A & B| / (|A| + |B|).

    Args:
        first: bool, or integers that are 0 or 1; any shape.
        second: the same, of the same shape.

    Returns:
        0 to 1; NaN if both masks are empty.

    Raises:
        ValueError: for arrays that are not masks, or different shapes.
    """
    first, second = _checked_masks(first, second)
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / total if total else float("nan")


def hd95(first: ArrayLike, second: ArrayLike, spacing: Sequence[float] | None = None) -> float:
    """95th percentile of the distances from either surface to the other.

    This is medpy's definition. The surface of a mask is its voxels with a face neighbour outside the mask; the outside
    of the volume is outside the mask. The distances of both directions are pooled, and the percentile is interpolated
    linearly.

    Only the bounding box of both masks is searched. Voxels on both surfaces have distance 0 and are skipped.

    Args:
        first: bool, or integers that are 0 or 1; any number of axes.
        second: the same, of the same shape.
        spacing: size of a voxel along each axis; default: 1, which gives the distance in voxels.

    Returns:
        The distance, in the unit of `spacing`.

    Raises:
        ValueError: for an empty mask, which has no surface, arrays that are not masks, different shapes, or an invalid
            spacing.
    """
    first, second = _checked_masks(first, second)
    steps = checked_spacing(spacing, first.ndim)
    boxes = bounding_box(first), bounding_box(second)
    if boxes[0] is None or boxes[1] is None:
        raise ValueError("an empty mask has no surface: decide what the distance is before calling hd95.")
    box = joined(boxes[0], boxes[1])
    edges = surface(first[box]), surface(second[box])
    distances = np.concatenate([_to_other(edges[0], edges[1], steps), _to_other(edges[1], edges[0], steps)])
    return float(np.percentile(distances, 95))


def as_mask(values: ArrayLike, name: str = "the mask") -> Mask:
    """Convert a mask to bool.

    Args:
        values: bool, or integers that are 0 or 1; at least one axis.
        name: for the message.

    Raises:
        ValueError: for anything else, such as labels or probabilities.
    """
    array = np.asarray(values)
    if not array.ndim:
        raise ValueError(f"{name} must be an array, got {values!r}.")
    if array.dtype == np.bool_:
        return array
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be bool, got {array.dtype}: threshold it first, such as values >= 0.5.")
    if array.size and not 0 <= array.min() <= array.max() <= 1:
        raise ValueError(
            f"{name} must be bool, or 0 and 1; got {array.dtype} from {array.min()} to {array.max()}: give one label "
            "at a time, such as labels == 3."
        )
    return array.astype(bool)


def surface(mask: ArrayLike) -> Mask:
    """The voxels of a mask with a face neighbour outside it; the outside of the volume is outside the mask."""
    mask = as_mask(mask)
    inner = mask.copy()
    for axis in range(mask.ndim):
        ahead, behind = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        behind[1:] &= ahead[:-1]
        behind[:-1] &= ahead[1:]
        behind[0] = behind[-1] = False
    return mask & ~inner


def bounding_box(mask: ArrayLike) -> Box | None:
    """The smallest box around a mask; None for an empty one."""
    return find_objects(as_mask(mask).view(np.uint8), 1)[0]


def joined(first: Box, second: Box) -> Box:
    """The smallest box around two boxes."""
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop), None) for a, b in zip(first, second, strict=True))


def checked_spacing(spacing: Sequence[float] | None, axes: int) -> tuple[float, ...]:
    """The spacing with its default.

    Raises:
        ValueError: unless it holds one positive number per axis.
    """
    if spacing is None:
        return (1.0,) * axes
    try:
        steps = tuple(float(step) for step in spacing)
    except (TypeError, ValueError):  # a single number, or words
        steps = ()
    if len(steps) != axes or not all(0 < step < float("inf") for step in steps):
        raise ValueError(f"spacing must hold {axes} positive numbers, one per axis; got {spacing!r}.")
    return steps


def _checked_masks(first: ArrayLike, second: ArrayLike) -> tuple[Mask, Mask]:
    masks = as_mask(first, "the first mask"), as_mask(second, "the second mask")
    if masks[0].shape != masks[1].shape:
        raise ValueError(f"both masks must have the same shape, got {masks[0].shape} and {masks[1].shape}.")
    return masks


def _to_other(source: Mask, target: Mask, steps: tuple[float, ...]) -> NDArray[np.float64]:
    """The distance from each voxel of one surface to the nearest of the other."""
    apart = source & ~target
    distances = np.zeros(np.count_nonzero(source))
    if not (count := np.count_nonzero(apart)):
        return distances
    if count + np.count_nonzero(target) > DENSE_SURFACE * source.size:
        found = distance_transform_edt(~target, sampling=steps)
        distances[:count] = np.asarray(found)[apart]
    else:
        # An unbalanced tree is faster to build, and points on a grid do not need balancing.
        tree = KDTree(np.argwhere(target) * steps, balanced_tree=False, compact_nodes=False)
        distances[:count] = tree.query(np.argwhere(apart) * steps)[0]
    return distances
