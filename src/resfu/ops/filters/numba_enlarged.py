"""Bilinear enlargement of a plane in the compiled guided filter's scratch, and its adjoint.

above and between [H + W] say where the rows of pixels, then the columns, lie on the low-resolution map: behind which
row, and how far from it to the next, where there is one. Planes of scratch have rows of P numbers.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.tile import LANES
from resfu.ops.compiled.vector import fma, load, splat, store
from resfu.ops.filters.numba_windows import mean


@no_type_check
@kernel
def enlarged(x, start, H, W, P, above, between, h, w, lines, s, out):
    """x [h, w] less its mean, as plane `out` [H, W] with zeros behind its rows. lines: room for h rows."""
    origin = mean(x, start, h * w)
    for y in range(h):
        place = lines + y * P
        for p in range(W):
            left = get(above, H + p)
            value = get(x, start + y * w + left) - origin
            beyond = get(x, start + y * w + min(left + 1, w - 1)) - origin
            put(s, place + p, value + get(between, H + p) * (beyond - value))
        for p in range(W, P):
            put(s, place + p, types.float32(0.0))
    for y in range(H):
        far = splat(get(between, y))
        upper, lower = lines + get(above, y) * P, lines + min(get(above, y) + 1, h - 1) * P
        for p in range(0, P, LANES):
            value = load(s, upper + p)
            store(s, out + y * P + p, fma(far, load(s, lower + p) - value, value))


@no_type_check
@kernel
def shrunk(s, a, W, P, above, between, h, w, lines, out, start):
    """The adjoint of `enlarged`: from plane a of scratch to out [h, w]."""
    H = len(above) - W
    for i in range(h * P):
        put(s, lines + i, types.float32(0.0))
    for y in range(H):
        upper = get(above, y)
        far = splat(get(between, y))
        target, next_one = lines + upper * P, lines + min(upper + 1, h - 1) * P
        for p in range(0, P, LANES):
            value = load(s, a + y * P + p)
            share = value * far
            store(s, target + p, load(s, target + p) + (value - share))
            store(s, next_one + p, load(s, next_one + p) + share)
    for y in range(h):
        for q in range(w):
            put(out, start + y * w + q, types.float32(0.0))
        for p in range(W):
            left = get(above, H + p)
            value = get(s, lines + y * P + p)
            share = value * get(between, H + p)
            place, next_one = start + y * w + left, start + y * w + min(left + 1, w - 1)
            put(out, place, get(out, place) + (value - share))
            put(out, next_one, get(out, next_one) + share)
