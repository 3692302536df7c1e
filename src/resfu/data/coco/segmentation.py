"""COCO's three encodings of a mask: polygons, run lengths as a list, and run lengths as a string."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Polygons x, y, x, y, ... whose union is the mask, or {"size": [H, W], "counts": run lengths}.
Segmentation = list[list[float]] | dict[str, Any]


def decode_mask(segmentation: Segmentation, height: int, width: int) -> NDArray[np.uint8]:
    """Decode the mask of an annotation.

    Args:
        segmentation: in any of the three encodings.
        height: height of the image.
        width: width of the image.

    Returns:
        [H, W], 0 or 1.

    Raises:
        ValueError: for a wrong size, runs that do not fill the image, or an invalid polygon.
    """
    runs = _checked_runs(segmentation, height, width)
    values = np.arange(len(runs), dtype=np.uint8) % 2
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def check_segmentation(segmentation: Segmentation, height: int, width: int) -> None:
    """Raise the errors of `decode_mask` without making the mask."""
    if isinstance(segmentation, dict):
        _checked_runs(segmentation, height, width)
    else:
        _check_polygons(segmentation)


def mask_extent(segmentation: Segmentation, height: int, width: int) -> tuple[int, list[int]]:
    """The area of a mask in pixels, and its bounding box x, y, width, height; zeros for an empty mask.

    Arguments and errors as in `decode_mask`.
    """
    ends = np.cumsum(_checked_runs(segmentation, height, width))
    # The first and last pixels of the runs of ones; pixels are counted down the columns.
    first, last = ends[:-1:2], ends[1::2] - 1
    first, last = first[last >= first], last[last >= first]
    if not len(first):
        return 0, [0, 0, 0, 0]
    left, right = int(first[0] // height), int(last[-1] // height)
    whole = first // height != last // height  # a run over two columns or more touches the upper and lower border
    top, bottom = np.where(whole, 0, first % height).min(), np.where(whole, height - 1, last % height).max()
    return int((last - first + 1).sum()), [left, int(top), right - left + 1, int(bottom - top) + 1]


def encode_rle(mask: NDArray[Any], compress: bool = True) -> dict[str, Any]:
    """Encode a mask as run lengths.

    Args:
        mask: [H, W], 0 or 1.
        compress: as a string, as in result files; otherwise as a list, as in COCO's crowds.

    Returns:
        {"size": [H, W], "counts": alternating runs of 0 and 1, down the columns}, ready for JSON.
    """
    if compress:
        from pycocotools import mask as coco_mask

        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        return {"size": list(mask.shape), "counts": bytes(rle["counts"]).decode()}  # pyright: ignore[reportArgumentType]
    down = mask.T.flatten().astype(np.int8)
    edges = np.flatnonzero(np.diff(down, prepend=0))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate(([0], edges, [down.size]))).tolist()}


def outlines(mask: NDArray[Any]) -> list[list[float]] | None:
    """Encode a mask as polygons along the edges of its pixels, which decode to exactly that mask.

    Args:
        mask: [H, W], 0 or 1.

    Returns:
        The polygons; None for a mask with a hole, which COCO's polygons cannot express.
    """
    inside = np.pad(np.asarray(mask, dtype=bool), 1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Each edge between inside and outside, with the inside on its right. Two edges start where two pixels touch at a
    # corner.
    for (dy, dx), (y0, x0), (y1, x1) in (
        ((-1, 0), (0, 0), (0, 1)),
        ((0, 1), (0, 1), (1, 1)),
        ((1, 0), (1, 1), (1, 0)),
        ((0, -1), (1, 0), (0, 0)),
    ):
        outside = ~np.roll(inside, (-dy, -dx), (0, 1))
        for y, x in (np.argwhere(inside & outside) - 1).tolist():
            following.setdefault((y + y0, x + x0), []).append((y + y1, x + x1))
    polygons = []
    while following:
        start = point = next(iter(following))
        loop = []
        while True:
            loop.append(point)
            ends = following[point]
            end = ends.pop()
            if not ends:
                del following[point]
            if end == start:
                break
            point = end
        y, x = np.array(loop, dtype=np.float64).T
        if float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) < 0:  # the opposite direction: a hole
            return None
        polygons.append(np.stack([x, y], axis=1).flatten().tolist())
    return polygons


def _checked_runs(segmentation: Segmentation, height: int, width: int) -> list[int]:
    if isinstance(segmentation, dict):
        size = segmentation.get("size")
        if not isinstance(size, list | tuple) or list(size) != [height, width]:
            raise ValueError(f"the mask has size {size}, but its image {[height, width]}.")
        counts = segmentation.get("counts")
    else:
        from pycocotools import mask

        _check_polygons(segmentation)
        parts = mask.frPyObjects(segmentation, height, width)  # pyright: ignore[reportCallIssue, reportArgumentType]
        # pycocotools' own decode makes numpy 2 warn.
        counts = mask.merge(parts)["counts"]
    if not isinstance(counts, list | str | bytes):
        raise ValueError(f"the runs of the mask must be a list or a string, got {counts!r}.")
    runs = _runs(counts)
    if not all(isinstance(run, int) for run in runs):
        raise ValueError(f"the runs of the mask must be whole numbers, got {str(runs)[:60]}.")
    if sum(runs) != height * width or min(runs) < 0:
        raise ValueError(f"the runs of the mask cover {sum(runs)} of {height} x {width} pixels.")
    return runs


def _check_polygons(polygons: list[list[float]]) -> None:
    if not polygons or any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise ValueError(
            f"polygons of {[len(polygon) for polygon in polygons]} numbers; a polygon needs x, y of 3 points or more."
        )
    # The sum is finite only if all numbers are: much faster than checking each.
    if not all(math.isfinite(sum(polygon)) for polygon in polygons):
        raise ValueError("a polygon holds a number that is not finite.")


def _runs(counts: list[int] | str | bytes) -> list[int]:
    """Decode the runs of either notation.

    Each character of a string, minus 48, holds five bits of a number, lowest first. The sixth bit says that more
    follow; the fifth bit of the last character is the sign. From the fourth run on, a run is stored as its difference
    from the run two before it.
    """
    if isinstance(counts, list):
        return counts
    runs: list[int] = []
    value = shift = 0
    for code in counts.encode() if isinstance(counts, str) else counts:
        bits = code - 48
        if not 0 <= bits < 64:
            raise ValueError(f"the runs of the mask hold the invalid character {chr(code)!r}.")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the runs of the mask end in the middle of a number.")
    return runs
