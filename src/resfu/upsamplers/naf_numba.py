"""Rotary positions by a compiled kernel."""

from typing import no_type_check

from torch import Tensor

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.threads import flat, run
from resfu.ops.compiled.tile import LANES
from resfu.ops.compiled.vector import fma, load, store


@no_type_check
@kernel
def _turned(x, place, cos, sin, t, F):
    """Turn F pairs of channels 2 F apart."""
    for f in range(0, F - LANES + 1, LANES):
        a, b, c, s = load(x, place + f), load(x, place + 2 * F + f), load(cos, t + f), load(sin, t + f)
        store(x, place + f, a * c - b * s)
        store(x, place + 2 * F + f, fma(b, c, a * s))
    for f in range(F // LANES * LANES, F):
        u, v, x_of, y_of = get(x, place + f), get(x, place + 2 * F + f), get(cos, t + f), get(sin, t + f)
        put(x, place + f, u * x_of - v * y_of)
        put(x, place + 2 * F + f, v * x_of + u * y_of)


@no_type_check
@shared_kernel
def _rotate(first, last, thread, x, W, heads, F, top, row_cos, row_sin, column_cos, column_sin):
    for y in range(first, last):
        for i in range(W * heads):
            place = (y * W * heads + i) * 4 * F
            _turned(x, place, row_cos, row_sin, (top + y) * F, F)
            _turned(x, place + F, column_cos, column_sin, i // heads * F, F)


def rotate(query: Tensor, heads: int, cos: list[Tensor], sin: list[Tensor], top: int) -> None:
    """`rotation.rotate` in place on rows [rows, W, D] from `top` on, in order and fp32.

    Args:
        query: the rows.
        heads: blocks of channels that are turned alike.
        cos: of the angles of rows [H, F] and columns [W, F].
        sin: likewise.
        top: first row.
    """
    rows, W, _ = query.shape
    tables = [flat(t) for pair in zip(cos, sin, strict=True) for t in pair]
    x, F = query.view(-1).numpy(), cos[0].shape[1]
    run(_rotate, rows, x, W, heads, F, top, *tables)
