"""Attention of single pixels, for callers that do not need the whole map."""

import torch
from torch import Tensor

from resfu.ops.attention.axis import Axis

_AT_ONCE = 256  # pixels computed at once; each needs a copy of its window


def attend_at(
    query: Tensor,
    key: Tensor,
    values: Tensor,
    heads: int,
    axes: tuple[Axis, Axis],
    cells: tuple[Tensor, Tensor],
    pixels: tuple[Tensor, Tensor],
    mean: bool = False,
) -> Tensor:
    """Compute the values that `cpu.attend` writes, for n pixels of an image.

    Args:
        query: [D, n], scaled.
        key: [D, h, w].
        values: [C, h, w].
        heads: number of blocks of channels, each with a softmax of its own.
        axes: windows along H and W.
        cells: rows and columns of the low-resolution pixels that contain the pixels' centres, [n] each.
        pixels: rows and columns of the pixels, [n] each.
        mean: weigh all values by the mean of the heads' weights.

    Returns:
        [C, n] in the dtype of the values.
    """
    out = []
    for part in torch.arange(query.shape[1], device=query.device).split(_AT_ONCE):
        rows, columns = (axis.window.to(query.device)[cell[part]] for axis, cell in zip(axes, cells, strict=True))
        place = (slice(None), rows[:, :, None], columns[:, None])
        q, k = query[:, part].unflatten(0, (heads, -1)), key[place].flatten(2).unflatten(0, (heads, -1))
        scores = torch.einsum("gdn, gdnt -> gnt", q, k)
        for axis, pixel, shape in zip(axes, pixels, ((-1, rows.shape[1], 1), (-1, 1, columns.shape[1])), strict=True):
            if axis.seen is not None:
                seen = axis.seen.to(query.device)[pixel[part]].view(shape)
                scores = scores.masked_fill(~seen.expand(-1, rows.shape[1], columns.shape[1]).flatten(1), float("-inf"))
        weights = scores.softmax(2)
        if mean:
            weights = weights.mean(0, keepdim=True)
        v = values[place].flatten(2).to(weights.dtype).unflatten(0, (len(weights), -1))
        out.append(torch.einsum("gnt, gcnt -> gcn", weights, v).flatten(0, 1))
    return torch.cat(out, 1).to(values.dtype) if out else values.new_empty(len(values), 0)
