"""Tiles of a map, copied to where the compiled kernels reach them quickly."""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.tile import LANES, PIXELS
from resfu.ops.compiled.vector import load, splat, store


@no_type_check
@kernel
def copied(x, a, stride, rows, count, out, o):
    """out [rows, 32]: the first `count` numbers of rows of x, `stride` apart, and zeros behind them."""
    whole = count // LANES * LANES
    for row in range(rows):
        source, target = a + row * stride, o + row * PIXELS
        if whole < PIXELS:
            store(out, target + whole, splat(types.float32(0.0)))
            store(out, target + LANES, splat(types.float32(0.0)))
        for p in range(0, whole, LANES):
            store(out, target + p, load(x, source + p))
        for p in range(whole, count):
            put(out, target + p, get(x, source + p))
