"""Attention to windows of a low-resolution map by a compiled kernel, in fp32 on the CPU."""

from collections.abc import Callable

import torch
from torch import Tensor

from resfu.ops.attention import numba_kernels as kernels
from resfu.ops.attention.axis import Axis
from resfu.ops.compiled.threads import flat, past_the_cache, run, scratch
from resfu.ops.compiled.tile import LANES, PIXELS, ROWS

_PIXELS = 256  # of a cell at once, where its rows are short enough


def attend(
    query: Callable[[int, int], Tensor],
    key: Tensor,
    values: Tensor,
    out: Tensor,
    heads: int,
    rows: Axis,
    columns: Axis,
    mean: bool,
) -> None:
    """See `cpu.attend`, which it is for fp32 and an output in order."""
    (D, _, w), C, (H, W) = key.shape, len(values), out.shape[-2:]
    D16, blocks = _whole(D, LANES), 1 if mean else heads
    C8 = C + ROWS  # the last rows of a product may lie behind the channels
    row_taps, column_taps = rows.window.shape[1], columns.window.shape[1]
    filled, step = _whole(row_taps * column_taps, ROWS), max(1, _PIXELS // columns.slots)
    N = _whole(step * columns.slots, PIXELS)
    rest = max(_whole(C // blocks, ROWS), D16) + 2 + row_taps + column_taps + D16 + 2 * filled
    size = filled * (D16 + C8) + rest * N
    masked = rows.seen is not None or columns.seen is not None
    seen = [_as_scores(axis, P) if masked else out.new_zeros(1) for axis, P in ((rows, H), (columns, W))]
    keys, every = (flat(x.movedim(0, -1)) for x in (key, values))
    table, first = (torch.tensor(n, dtype=torch.int64, device="cpu").numpy() for n in ([0], columns.first))
    target, space, windows = out.view(-1).numpy(), scratch(size), flat(columns.window)
    past = past_the_cache(out) == 1 and all(place % LANES == 0 for place in columns.first)
    for i, window in enumerate(rows.window):
        for top in range(rows.first[i], rows.first[i + 1], step):
            bottom = min(top + step, rows.first[i + 1])
            q, here = flat(query(top, bottom)), flat(window)
            panel = _whole((bottom - top) * columns.slots, PIXELS)

            run(
                kernels.attend, w, q, top, bottom - top, W, D, D16, keys, every, C, C8, w, heads, blocks, here,
                row_taps, windows, column_taps, first, H, masked, flat(seen[0]), flat(seen[1]), panel, past, target,
                table, space, size,
            )  # fmt: skip


def _whole(n: int, step: int) -> int:
    return -(-n // step) * step


def _as_scores(axis: Axis, P: int) -> Tensor:
    """What pixels see as what is added to their scores, [P, L]."""
    scores = torch.zeros(P, axis.window.shape[1], dtype=torch.float32, device="cpu")
    return scores if axis.seen is None else scores.masked_fill_(~axis.seen, float("-inf"))
