"""Attention to windows of a low-resolution map on the CPU, cell by cell, in memory that is allocated once.

All pixels whose centres lie in the same low-resolution pixel (a cell) share a window. For each cell and head, the
scores are one small product of matrices, and so is the sum of the values. No map of all weights is written.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from resfu.ops.attention.axis import Axis
from resfu.ops.backends import which_backend
from resfu.ops.reassembly.workspace import Workspace

_SCORES = 1 << 19  # number of scores computed at once: 2 MB in fp32


def attend(
    query: Callable[[int, int], Tensor],
    key: Tensor,
    values: Tensor,
    out: Tensor,
    heads: int,
    rows: Axis,
    columns: Axis,
    mean: bool = False,
) -> None:
    """Write the attention of one image to `out`.

    Args:
        query: function (first row, one past the last) -> [rows, W, D], scaled. It is called once for each part of the
            image, from top to bottom, before that part of `out` is written.
        key: [D, h, w].
        values: [C, h, w].
        out: [C, H, W], in any strides.
        heads: G, number of heads, with D / G channels and a softmax each.
        rows: windows along H.
        columns: windows along W.
        mean: weigh all values by the mean of the heads' weights. Otherwise each head weighs its own block of C / G.
    """
    if out.is_contiguous() and which_backend(values) == which_backend(key) == "numba":
        from resfu.ops.attention import numba

        return numba.attend(query, key, values, out, heads, rows, columns, mean)
    space = Workspace(key)
    blocks = 1 if mean else heads
    keys, every = _beside(key, columns, heads), _beside(values, columns, blocks)
    cells, taps = len(columns.window), rows.window.shape[1] * columns.window.shape[1]
    step = max(1, _SCORES // (cells * heads * columns.slots * taps))
    for i, window in enumerate(rows.window):
        part = slice(int(window[0]), int(window[-1]) + 1)
        k = space.copy("key", keys[part].permute(1, 2, 0, 3, 4)).flatten(2, 3).flatten(0, 1)  # [w G, taps, d]
        v = space.copy("values", every[part].permute(1, 2, 0, 3, 4)).flatten(2, 3).flatten(0, 1)
        for top in range(rows.first[i], rows.first[i + 1], step):
            bottom = min(top + step, rows.first[i + 1])
            q = _in_cells(query(top, bottom), columns, heads, space)
            scores = torch.bmm(q, k.mT, out=space.take("scores", (len(q), q.shape[1], taps)))
            scores = scores.unflatten(0, (cells, heads))
            _leave_out(scores, rows, columns, top, bottom)
            weights = torch.softmax(scores, 3, out=space.take("weights", tuple(scores.shape)))
            if mean:
                weights = torch.mean(weights, 1, keepdim=True, out=space.take("mean", (cells, 1, *scores.shape[2:])))
            weights = weights.flatten(0, 1)
            result = torch.bmm(v.mT, weights.mT, out=space.take("result", (len(v), v.shape[2], weights.shape[1])))
            result = result.view(cells, -1, bottom - top, columns.slots).permute(1, 2, 0, 3)  # [C, rows, w, m]
            _write(out[:, top:bottom], result, columns, space)


def _beside(x: Tensor, columns: Axis, heads: int) -> Tensor:
    """Copy the columns of each cell's window next to each other: [D, h, w] -> [h, w, G, L, D / G]."""
    beside = x.movedim(0, -1).contiguous()[:, columns.window]  # [h, w, L, D]
    return beside.unflatten(3, (heads, -1)).transpose(2, 3)


def _in_cells(query: Tensor, columns: Axis, heads: int, space: Workspace) -> Tensor:
    """Sort the pixels of some rows into their cells' slots: [rows, W, D] -> [w G, rows m, d]."""
    if columns.pixel is not None:
        query = torch.index_select(
            query, 1, columns.pixel, out=space.take("slots", (len(query), len(columns.pixel), query.shape[2]))
        )
    query = query.unflatten(2, (heads, -1)).unflatten(1, (-1, columns.slots))  # [rows, w, m, G, d]
    return space.copy("query", query.permute(1, 3, 0, 2, 4)).flatten(2, 3).flatten(0, 1)


def _leave_out(scores: Tensor, rows: Axis, columns: Axis, top: int, bottom: int) -> None:
    """Set scores [w, G, rows m, taps] to minus infinity where a pixel does not attend to the tap."""
    grid = scores.unflatten(3, (rows.window.shape[1], -1)).unflatten(2, (bottom - top, -1))
    if rows.seen is not None:
        grid.masked_fill_(~rows.seen[top:bottom, None, :, None], float("-inf"))
    if columns.seen is not None:
        seen = columns.seen if columns.pixel is None else columns.seen[columns.pixel]
        grid.masked_fill_(~seen.unflatten(0, (len(columns.window), -1))[:, None, None, :, None], float("-inf"))


def _write(target: Tensor, result: Tensor, columns: Axis, space: Workspace) -> None:
    """Write a result [C, rows, w, m], sorted by cells, into the rows of the output, [C, rows, W]."""
    if columns.slot is None:
        target.unflatten(2, (-1, columns.slots)).copy_(result)
        return
    slots = space.copy("in order", result).flatten(2)
    target.copy_(torch.index_select(slots, 2, columns.slot, out=space.take("pixels", tuple(target.shape))))
