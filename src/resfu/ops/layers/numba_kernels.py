"""The compiled kernels: activation and 1 x 1 or 3 x 3 convolution of a map [H, W, D], channels together.

All arrays are flat and fp32. A layer's input is brought into a block of scratch memory, normalised and through SiLU.
Its convolution is the product of matrices of `compiled.tile`, with 8 pixels as rows and 32 channels as columns. The
3 x 3 convolution is Winograd's: 36 products on transformed tiles of 6 x 6 give 4 x 4 pixels, 4 times fewer
multiplications than the definition (Lavin and Gray, arXiv 1509.09308, with points 0, 1, -1, 1/2, -2). D is filled up to
a multiple of 16 (D16), the output's width M to one of 32 (M32).
"""

import math
from typing import no_type_check

from numba import types

from resfu.ops.compiled.combine import combination
from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import fence, fetch, get, put
from resfu.ops.compiled.softmax import exponential
from resfu.ops.compiled.tile import LANES, PIXELS, ROWS, layer_product, product
from resfu.ops.compiled.vector import fma, load, splat, store, total
from resfu.ops.layers.winograd import INPUT, OUTPUT

BLOCK = 64  # pixels of a task of 1 x 1 convolutions; columns of a part of a row of tiles
TILES = BLOCK // 4
SIDE = 6  # of a tile
POINTS = SIDE * SIDE
AS_IS, ACTIVATED, UNIT = 0, 1, 2  # kinds of preparation

_product = product()
_onto = layer_product()
_past = layer_product(streaming=True)
_into = combination(INPUT)
_out_of = combination(OUTPUT)


@no_type_check
@kernel
def prepared(x, b, D, D16, scale, shift, kind, out, o):
    """A pixel's channels, ready for the convolution, and zeros behind them up to D16, a multiple of 16.

    kind: AS_IS; ACTIVATED, times scale, plus shift, then SiLU; or UNIT, divided by the root of their mean square plus
    shift[0].
    """
    one, zero = types.float32(1.0), types.float32(0.0)
    if kind == ACTIVATED:
        for c in range(D):
            z = get(x, b + c) * get(scale, c) + get(shift, c)
            e = exponential(-abs(z))  # of what is at most 0: no overflow
            s = one / (one + e)
            put(out, o + c, z * (e * s if z < zero else s))
    else:
        for c in range(D):
            put(out, o + c, get(x, b + c))
    for c in range(D, D16):
        put(out, o + c, zero)
    if kind == UNIT:
        squares = splat(zero)
        for c in range(0, D16, LANES):
            values = load(out, o + c)
            squares = fma(values, values, squares)
        factor = one / math.sqrt(total(squares) / types.float32(D) + get(shift, 0))
        for c in range(D):
            put(out, o + c, get(out, o + c) * factor)


@no_type_check
@kernel
def given_out(block, b, M, bias, out, o, add, sums, s):
    """A pixel's results from scratch into the map, or onto it; they and their squares are added to the sums [2, M]."""
    if add:
        for c in range(M):
            put(block, b + c, get(block, b + c) + get(out, o + c))
    for c in range(0, M - LANES + 1, LANES):
        values = load(block, b + c) + load(bias, c)
        store(out, o + c, values)
        store(sums, s + c, load(sums, s + c) + values)
        store(sums, s + M + c, fma(values, values, load(sums, s + M + c)))
    for c in range(M // LANES * LANES, M):
        value = get(block, b + c) + get(bias, c)
        put(out, o + c, value)
        put(sums, s + c, get(sums, s + c) + value)
        put(sums, s + M + c, get(sums, s + M + c) + value * value)


@no_type_check
@shared_kernel
def pointwise(
    first, last, thread, pixels, x, D, D16, scale, shift, kind, weight, bias, M, M32, out, add, past, sums, table,
    scratch, size,
):  # fmt: skip
    """1 x 1 convolution of [pixels, D] to [pixels, M], stored past the cache if asked.

    A task is 64 pixels; sums [tasks, 2, M], zeroed.
    """
    begin = thread * size
    result = begin + BLOCK * D16
    for task in range(first, last):
        start, moments = task * BLOCK, task * 2 * M
        count = min(BLOCK, pixels - start)
        for i in range(count):
            prepared(x, (start + i) * D, D, D16, scale, shift, kind, scratch, begin + i * D16)
        for i in range(0, count, ROWS):
            whole = M == M32 and i + ROWS <= count  # else a product would write behind the pixel or the map
            source, target = begin + i * D16, (start + i) * M
            for m in range(0, M32, PIXELS):
                panel = m * D16
                if not whole:
                    _product(
                        scratch, result + m, M32, scratch, source, D16, 1, weight, panel, PIXELS, D16, bias, 0, table, 0
                    )
                    continue
                for k in range(ROWS):  # of the next task
                    for line in range(m, m + PIXELS, LANES):
                        fetch(x, (start + BLOCK + i + k) * D + line)
                        if not past:
                            fetch(out, target + (BLOCK + k) * M + line)
                if add:
                    _onto(
                        out, target + m, M, scratch, source, D16, weight, panel, PIXELS, D16, out, target + m, M, sums,
                        moments + m, M,
                    )  # fmt: skip
                elif past:
                    _past(
                        out, target + m, M, scratch, source, D16, weight, panel, PIXELS, D16, bias, m, 0, sums,
                        moments + m, M,
                    )  # fmt: skip
                else:
                    _onto(
                        out, target + m, M, scratch, source, D16, weight, panel, PIXELS, D16, bias, m, 0, sums,
                        moments + m, M,
                    )  # fmt: skip
            if not whole:
                for k in range(min(ROWS, count - i)):
                    given_out(scratch, result + k * M32, M, bias, out, (start + i + k) * M, add, sums, moments)
    if past:
        fence()


@no_type_check
@kernel
def _inside(i, n, mirrored):
    """The place of i in a mirrored axis; -1 for a place of zeros."""
    if i < 0:
        return min(-i, n - 1) if mirrored else -1
    if i >= n:
        return max(2 * n - 2 - i, 0) if mirrored else -1
    return i


@no_type_check
@shared_kernel
def winograd(
    first, last, thread, H, W, x, D, D16, scale, shift, kind, mirrored, weight, bias, M, M32, out, sums, table,
    scratch, size,
):  # fmt: skip
    """3 x 3 convolution of [H, W, D] to [H, W, M]. A task is 4 rows; sums [tasks, 2, M], zeroed."""
    begin = thread * size
    width = BLOCK + 2
    lines = begin + SIDE * SIDE * LANES
    tiles = lines + SIDE * width * D16
    products = tiles + POINTS * TILES * max(D16, M32)
    for task in range(first, last):
        top = 4 * task
        for left in range(0, W, BLOCK):
            count = min(TILES, (W - left + 3) // 4)
            for r in range(SIDE):
                row = _inside(top - 1 + r, H, mirrored)
                for i in range(4 * count + 2):
                    column = _inside(left - 1 + i, W, mirrored)
                    target = lines + (r * width + i) * D16
                    if row < 0 or column < 0:
                        for c in range(D16):
                            put(scratch, target + c, types.float32(0.0))
                    else:
                        prepared(x, (row * W + column) * D, D, D16, scale, shift, kind, scratch, target)
            for t in range(count):
                for c in range(0, D16, LANES):
                    for r in range(SIDE):
                        source = lines + (r * width + 4 * t) * D16 + c
                        _into(scratch, begin + r * SIDE * LANES, LANES, scratch, source, D16)
                    for j in range(SIDE):
                        target = tiles + (j * TILES + t) * D16 + c
                        _into(
                            scratch, target, SIDE * TILES * D16, scratch, begin + j * LANES, SIDE * LANES
                        )  # fmt: skip
            for point in range(POINTS):
                for m in range(0, M32, PIXELS):
                    for t in range(0, count, ROWS):
                        _product(
                            scratch, products + (point * TILES + t) * M32 + m, M32, scratch,
                            tiles + (point * TILES + t) * D16, D16, 1, weight, (point * M32 + m) * D16, PIXELS, D16,
                            bias, 0, table, 0,
                        )  # fmt: skip
            for t in range(count):
                for c in range(0, M32, LANES):
                    for k in range(SIDE):
                        source = products + (k * SIDE * TILES + t) * M32 + c
                        _out_of(scratch, begin + k * 4 * LANES, LANES, scratch, source, TILES * M32)
                    for j in range(4):
                        target = tiles + (4 * t + j) * M32 + c
                        _out_of(scratch, target, BLOCK * M32, scratch, begin + j * LANES, 4 * LANES)
            for r in range(min(4, H - top)):
                for i in range(min(BLOCK, W - left)):
                    place = ((top + r) * W + left + i) * M
                    source = tiles + (r * BLOCK + i) * M32
                    given_out(scratch, source, M, bias, out, place, False, sums, task * 2 * M)
