"""Compute the labels of one box of the output.

The inner axes are interpolated first, which leaves planes [p, K, m]: p positions along the first axis of the logits, K
classes, and m pixels of the output along the other axes.
Each output row lies between two planes. All rows between the same two planes form one block [n, K, m].
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from resfu.deploy.boxes import Box
from resfu.deploy.corners import CornerLabels
from resfu.deploy.decisions import Decision, Largest
from resfu.deploy.linear import Taps, interpolate_axis

_BLOCK = 1 << 18  # number of elements that stay in the cache from pass to pass
_VECTOR = 64  # number of columns that a maximum over classes processes at once
_FEW = 1 << 15  # groups of rows with fewer elements are merged across pairs of planes
_MOST_ROWS = 64  # largest number of rows in a block
_COPIES = 3  # copies of the planes in memory while an axis is interpolated


def working_bytes(classes: int, itemsize: int) -> Callable[[list[int], list[int]], float]:
    """A function that bounds the memory of `label_box`, from the pixels written and positions read along each axis."""

    def needed(pixels: list[int], reads: list[int]) -> float:
        inner = 1.0
        for P, p in zip(pixels[1:], reads[1:], strict=True):
            inner *= max(P, p)
        planes = reads[0] * classes * inner * itemsize * _COPIES
        block = 4 * itemsize * max(2 * _BLOCK, _MOST_ROWS * classes * _VECTOR)
        return planes + block + pixels[0] * inner * 10  # labels, as int64 and as stored

    return needed


def label_box(logits: Tensor, taps: list[Taps], box: Box, decision: Decision) -> tuple[Tensor, Tensor | None]:
    """The labels of a box, and their probabilities if the decision computes them.

    Args:
        logits: [K, *sizes], one image.
        taps: the taps of each axis of the output.
        box: the box's span along each axis.
        decision: turns logits into labels.

    Returns:
        Labels [n, m] in int64, with n pixels along the first axis and m along all others; and probabilities [n, m] in
        fp32, or None.
    """
    parts = [tap.part(*span) for tap, span in zip(taps, box, strict=True)]
    spans = [part.span() for part in parts]
    parts = [part.shifted(span[0]) for part, span in zip(parts, spans, strict=True)]
    x = logits[(slice(None), *(slice(*span) for span in spans))].movedim(1, 0)
    x = x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()
    for axis in range(x.dim() - 1, 1, -1):
        x = interpolate_axis(x, parts[axis - 1], axis)
    return _label_rows(x.flatten(2), parts[0], decision, logits.dtype)


def _label_rows(planes: Tensor, taps: Taps, decision: Decision, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    n, (_, K, m) = len(taps.low), planes.shape
    labels = torch.empty((n, m), dtype=torch.long, device=planes.device)
    confident = isinstance(decision, Largest) and decision.confident
    confidence = torch.empty((n, m), dtype=torch.float32, device=planes.device) if confident else None
    corners = CornerLabels.of(planes, dtype) if decision.of_corners and taps.high is not None and K > 1 else None

    def write(first: int, last: int, columns: slice | Tensor) -> None:
        block = _between(planes, taps.part(first, last), columns)
        if block.dtype != dtype:
            block = block.to(dtype).to(block.dtype)  # rounded as the large logits would be
        labels[first:last, columns], probability = decision(block)
        if confidence is not None and probability is not None:
            confidence[first:last, columns] = probability

    for first, last in _runs(taps, K * m):
        between = (int(taps.low[first]), 0 if taps.high is None else int(taps.high[last - 1]))
        columns = None if corners is None else corners.open(*between)
        if corners is not None and columns is not None:
            labels[first:last] = corners.label[between[0]]
            if len(columns):
                write(first, last, columns)
            continue
        step = max(1, round(_BLOCK / (K * (last - first) * _VECTOR))) * _VECTOR
        for left in range(0, m, step):
            write(first, last, slice(left, min(left + step, m)))
    return labels, confidence


def _runs(taps: Taps, width: int) -> Iterator[tuple[int, int]]:
    """The rows of each block, as (first, one past the last).

    A block has all rows between the same two planes, or more if these are too small to be worth a call.

    Args:
        taps: the taps of the rows.
        width: number of elements in a row.
    """
    counts = torch.unique_consecutive(taps.low, return_counts=True)[1].tolist()
    first = last = 0
    for count in counts:
        if (last - first) * width and (last + count - first) * width > _FEW:
            yield first, last
            first = last
        for _ in range(count // _MOST_ROWS):
            yield (first, last := last + _MOST_ROWS)
            first = last
        last += count % _MOST_ROWS
    if last > first:
        yield first, last


def _between(planes: Tensor, taps: Taps, columns: slice | Tensor) -> Tensor:
    """Rows [n, K, some columns] between the planes [p, K, m]."""
    if taps.high is None or int(taps.low[0]) != int(taps.low[-1]):
        return interpolate_axis(planes[:, :, columns], taps, 0)
    low, high, low_weight, high_weight = taps.pairs()
    block = planes[int(high[0])][:, columns] * high_weight[:, None, None]
    return block.addcmul_(planes[int(low[0])][:, columns], low_weight[:, None, None])
