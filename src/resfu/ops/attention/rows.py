"""Some output rows of an attention to windows of a low-resolution map, by plain differentiable operators.

Like `cpu.py` it works cell by cell: all pixels whose centres lie in the same low-resolution pixel share a window.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.attention.axis import Axis

_SCORES = 1 << 21  # number of scores computed at once


def attend_rows(
    query: Float[Tensor, "B D n W"],
    key: Float[Tensor, "B D h w"],
    values: Float[Tensor, "B C h w"],
    heads: int,
    axes: tuple[Axis, Axis],
    first: int,
    mean: bool = False,
) -> Float[Tensor, "B C n W"]:
    """Compute the attention of n rows of an image.

    Args:
        query: [B, D, n, W], the query of these rows, scaled.
        key: [B, D, h, w], of the whole low-resolution map.
        values: [B, C, h, w], of the whole low-resolution map.
        heads: G, number of heads, with D / G channels and a softmax each.
        axes: windows along the height and the width of the image.
        first: index of the first of the n rows in the image.
        mean: weigh all values by the mean of the heads' weights. Otherwise each head weighs its own block of C / G.

    Returns:
        [B, C, n, W] in the dtype of the values.
    """
    rows, columns = axes
    last, blocks = first + query.shape[2], 1 if mean else heads
    at_once = max(1, _SCORES // (len(query) * heads * query.shape[3] * rows.window.shape[1] * columns.window.shape[1]))
    out = []
    for cell in range(len(rows.window)):
        top, bottom = max(first, rows.first[cell]), min(last, rows.first[cell + 1])
        if top >= bottom:
            continue
        k, v = (_windows(x, rows.window[cell], columns, G) for x, G in ((key, heads), (values, blocks)))
        for begin in range(top, bottom, at_once):
            end = min(begin + at_once, bottom)
            q = _in_cells(query[:, :, begin - first : end - first], columns, heads)  # [B, w, G, n m, d]
            scores = _seen_alone(q @ k.mT, rows, columns, begin, end)
            weights = scores.softmax(-1)
            weights = weights.mean(2, keepdim=True) if mean else weights
            result = (weights @ v.to(weights.dtype)).unflatten(3, (end - begin, -1))  # [B, w, G, n, m, c]
            result = result.permute(0, 2, 5, 3, 1, 4).flatten(4).flatten(1, 2)  # [B, C, n, w m]
            slot = columns.slot
            out.append(result if slot is None else result.index_select(3, slot.to(result.device)))
    return torch.cat(out, 2).to(values.dtype)


def _windows(x: Tensor, rows: Tensor, columns: Axis, heads: int) -> Tensor:
    """The windows of a row of cells: [B, D, h, w] -> [B, w, G, taps, D / G]."""
    seen = x[:, :, int(rows[0]) : int(rows[-1]) + 1]
    w, L = columns.window.shape
    seen = seen.index_select(3, columns.window.flatten().to(x.device)).unflatten(3, (w, L))  # [B, D, L, w, L']
    return seen.unflatten(1, (heads, -1)).permute(0, 4, 1, 3, 5, 2).flatten(3, 4)


def _in_cells(query: Tensor, columns: Axis, heads: int) -> Tensor:
    """Sort the pixels of n rows into their cells' slots: [B, D, n, W] -> [B, w, G, n m, D / G]."""
    if columns.pixel is not None:
        query = query.index_select(3, columns.pixel.to(query.device))
    query = query.unflatten(3, (-1, columns.slots)).unflatten(1, (heads, -1))  # [B, G, d, n, w, m]
    return query.permute(0, 4, 1, 3, 5, 2).flatten(3, 4)


def _seen_alone(scores: Tensor, rows: Axis, columns: Axis, begin: int, end: int) -> Tensor:
    """Set scores [B, w, G, n m, taps] to minus infinity where a pixel does not attend to the tap."""
    if rows.seen is None and columns.seen is None:
        return scores
    w = len(columns.window)
    grid = scores.unflatten(4, (rows.window.shape[1], -1)).unflatten(3, (end - begin, -1))  # [B, w, G, n, m, L, L']
    if rows.seen is not None:
        grid = grid.masked_fill(~rows.seen[begin:end, None, :, None].to(scores.device), float("-inf"))
    if columns.seen is not None:
        seen = columns.seen if columns.pixel is None else columns.seen[columns.pixel]
        seen = seen.unflatten(0, (w, -1))[:, None, None, :, None].to(scores.device)
        grid = grid.masked_fill(~seen, float("-inf"))
    return grid.flatten(5).flatten(3, 4)
