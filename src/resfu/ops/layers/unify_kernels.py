"""The compiled kernel of AnyUp's feature-agnostic layer, as released: one pixel's C M correlations stay in the cache.

All arrays are flat and fp32. The correlations y of a pixel are the product of its window [C, taps] and the filters
[taps, M32] of `compiled.tile`, written as [C, M] and read as [M, C]: the softmax runs down the columns of that.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.softmax import exponential
from resfu.ops.compiled.tile import LANES, PIXELS, ROWS, product
from resfu.ops.compiled.vector import fma, load, splat, total

_product = product()


@no_type_check
@kernel
def window_of(x, y, i, wide, C, C8, k, factor, out, o):
    """A pixel's window of a padded map [.., wide, C], times a factor, as [taps, C8] with zeros behind the channels."""
    for dy in range(k):
        for dx in range(k):
            source, target = ((y + dy) * wide + i + dx) * C, o + (dy * k + dx) * C8
            for c in range(C):
                put(out, target + c, get(x, source + c) * factor)
            for c in range(C, C8):
                put(out, target + c, types.float32(0.0))


@no_type_check
@kernel
def mean_of_softmax(y, b, M, C, greatest, totals, work, out, o):
    """out[a] = mean over columns of the softmax down them, of y [M, C], which is written over."""
    zero = types.float32(0.0)
    for c in range(C):
        put(work, greatest + c, types.float32(-3.0e38))
        put(work, totals + c, zero)
    for a in range(M):
        for c in range(C):
            value, most = get(y, b + a * C + c), get(work, greatest + c)
            put(work, greatest + c, most if value <= most else value)
    for a in range(M):
        for c in range(C):
            value = exponential(get(y, b + a * C + c) - get(work, greatest + c))
            put(y, b + a * C + c, value)
            put(work, totals + c, get(work, totals + c) + value)
    for c in range(C):
        put(work, totals + c, types.float32(1.0) / (get(work, totals + c) * types.float32(C)))
    for a in range(M):
        row, sums, mean = b + a * C, splat(zero), zero
        for c in range(0, C - LANES + 1, LANES):
            sums = fma(load(y, row + c), load(work, totals + c), sums)
        for c in range(C // LANES * LANES, C):
            mean += get(y, row + c) * get(work, totals + c)
        put(out, o + a, mean + total(sums))


@no_type_check
@shared_kernel
def unify(first, last, thread, x, inverse, w, C, k, basis, M, M32, out, table, scratch, size):
    """Rows of out [h, w, M] from a padded map [h + k - 1, w + k - 1, C]; inverse [h, w] of the taps inside."""
    begin = thread * size
    C8 = (C + ROWS - 1) // ROWS * ROWS
    window = begin
    y = window + k * k * C8
    greatest = y + C8 * M + PIXELS  # behind the last row a product of 32 columns may write on
    totals = greatest + C
    for row in range(first, last):
        for i in range(w):
            pixel = row * w + i
            window_of(x, row, i, w + k - 1, C, C8, k, get(inverse, pixel), scratch, window)
            for c in range(0, C, ROWS):
                # What a product writes behind the filters is written over by the next rows, and by the filters before.
                for m in range(M32 - PIXELS, -1, -PIXELS):
                    _product(
                        scratch, y + c * M + m, M, scratch, window + c, 1, C8, basis, m, M32, k * k, scratch, 0, table,
                        0,
                    )  # fmt: skip
            mean_of_softmax(scratch, y, M, C, greatest, totals, scratch, out, pixel * M)
