"""The compiled kernel of the window sum between four low-resolution centres ("fine"), on tiles of 32 pixels of a row.

All arrays are flat and fp32. A tile's windows reach J low-resolution columns in each of M rows. These are the inputs of
one product of matrices with weights that are mostly 0: M J inputs instead of M M, and vectors of pixels instead of a
gather. C8 is the number of channels, filled up to a multiple of 8.
"""

import math
from typing import no_type_check

from numba import types

from resfu.ops.compiled.copy import copied
from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import fence, get, put
from resfu.ops.compiled.softmax import softmax
from resfu.ops.compiled.tile import LANES, PIXELS, ROWS, product, window_product
from resfu.ops.compiled.transpose import transpose
from resfu.ops.compiled.vector import fma, load, splat, store
from resfu.ops.reassembly.softmax import HEAD_START

K, M = 3, 4
COUNT = K * K
CENTRE, AHEAD = COUNT // 2, math.exp(HEAD_START)

_product, _past_the_cache = product(), product(streaming=True)
_more = product(start="out")
_of_columns, _of_neighbours = window_product(rows=M, apart=True), window_product(rows=M)


@no_type_check
@kernel
def spread(weights, w, fy, shares, i, J, table, mixed, out, o):
    """The weights [3, 3, 32] of neighbours as those of low-resolution columns: out [4, J, 32].

    shares [3, J, 32]: how much of a neighbour's weight each column takes. mixed: room for [4, 3, 32].
    """
    above, below = splat(types.float32(1.0) - fy), splat(fy)
    for p in range(0, K * PIXELS, LANES):
        first = load(weights, w + p)
        store(out, mixed + p, above * first)
        for y in range(1, K):
            second = load(weights, w + y * K * PIXELS + p)
            store(out, mixed + y * K * PIXELS + p, fma(above, second, below * first))
            first = second
        store(out, mixed + K * K * PIXELS + p, below * first)
    for j in range(J):
        _of_columns(out, o + j * PIXELS, J * PIXELS, shares, i + j * PIXELS, out, mixed, K * PIXELS, K, table, 0, J)


@no_type_check
@kernel
def with_head_start(scores, s):
    """scores [9, 32] with `HEAD_START` added at the centre."""
    for p in range(s + CENTRE * PIXELS, s + (CENTRE + 1) * PIXELS):
        put(scores, p, get(scores, p) + types.float32(HEAD_START))


@no_type_check
@kernel
def from_centre(weights, w, inside, i, top):
    """weights [9, 32] minus those of scores of 0 with a head start, plus 1 at the centre; see `softmax` for the others.

    The centre lies inside the image always.
    """
    one, zero, ahead = types.float32(1.0), types.float32(0.0), types.float32(AHEAD)
    for p in range(PIXELS):
        columns = zero
        for x in range(K):
            columns += one if get(inside, i + x * PIXELS + p) == zero else zero
        others = types.float32((top & 1) + (top >> 1 & 1) + (top >> 2 & 1)) * columns - one
        each = one / (ahead + others)
        for n in range(COUNT):
            if top >> (n // K) & 1 and get(inside, i + n % K * PIXELS + p) == zero:
                put(weights, w + n * PIXELS + p, get(weights, w + n * PIXELS + p) - each)
        centre = w + CENTRE * PIXELS + p
        put(weights, centre, get(weights, centre) + each * (one + others))


@no_type_check
@kernel
def features_of_tile(low, start, w1, C8, row, column, J, out, o):
    """The features [4, J, C8] of a tile's windows, side by side. Columns beyond the map are 0."""
    for y in range(M):
        for j in range(J):
            target, source = o + (y * J + j) * C8, start + ((row + y) * w1 + column + j) * C8
            if column + j < w1:
                for c in range(C8):
                    put(out, target + c, get(low, source + c))
            else:
                for c in range(C8):
                    put(out, target + c, 0)


@no_type_check
@shared_kernel
def softmax_window_sum(
    first_cell, last_cell, thread, cells, cell_rows, H, W, low, h1, w1, C, C8, scores, rows, fy, row_mask, columns,
    shares, inside, J, centred, out, streaming, scratch, size, table,
):  # fmt: skip
    """out [images, C, H, W] of features [images, h1, w1, C8] and the softmax of scores [images, 9, H, W].

    With `centred` the weights are changed by `from_centre`. A task is a row of cells of an image: cell_rows
    [cells + 1] are their first rows of pixels.
    """
    begin = thread * size
    T = (W + PIXELS - 1) // PIXELS
    weights = begin
    panel = weights + (COUNT + 2) * PIXELS
    edge = panel + M * J * PIXELS
    raw = edge + ROWS * PIXELS
    mixed = raw + COUNT * PIXELS
    window = mixed + M * K * PIXELS
    for task in range(first_cell, last_cell):
        b, cell = task // cells, task % cells
        for t in range(T):
            count = min(PIXELS, W - t * PIXELS)
            features_of_tile(
                low, b * h1 * w1 * C8, w1, C8, get(rows, get(cell_rows, cell)), get(columns, t), J, scratch, window
            )
            for y in range(get(cell_rows, cell), get(cell_rows, cell + 1)):
                copied(scores, (b * COUNT * H + y) * W + t * PIXELS, H * W, COUNT, count, scratch, raw)
                if centred:
                    with_head_start(scratch, raw)
                softmax(scratch, raw, PIXELS, COUNT, inside, t * K * PIXELS, get(row_mask, y), scratch, weights)
                if centred:
                    from_centre(scratch, weights, inside, t * K * PIXELS, get(row_mask, y))
                spread(scratch, weights, get(fy, y), shares, t * K * J * PIXELS, J, table, mixed, scratch, panel)
                for c in range(0, C, ROWS):
                    target = ((b * C + c) * H + y) * W + t * PIXELS
                    if streaming and count == PIXELS and c + ROWS <= C:
                        _past_the_cache(
                            out, target, H * W, scratch, window + c, 1, C8, scratch, panel, PIXELS, M * J, shares, 0,
                            table, 0,
                        )  # fmt: skip
                    elif count == PIXELS and c + ROWS <= C:
                        _product(
                            out, target, H * W, scratch, window + c, 1, C8, scratch, panel, PIXELS, M * J, shares, 0,
                            table, 0,
                        )  # fmt: skip
                    else:
                        _product(
                            scratch, edge, PIXELS, scratch, window + c, 1, C8, scratch, panel, PIXELS, M * J, shares, 0,
                            table, 0,
                        )  # fmt: skip
                        for i in range(min(ROWS, C - c)):
                            for p in range(count):
                                put(out, target + i * H * W + p, get(scratch, edge + i * PIXELS + p))
    fence()


@no_type_check
@kernel
def _weights_of_columns(d, i0, fy, shares, i, J, table, mixed, o):
    """The adjoint of `spread`, in one array: d [4, J, 32] to [3, 3, 32]."""
    above, below = splat(types.float32(1.0) - fy), splat(fy)
    for x in range(K):
        _of_neighbours(d, mixed + x * PIXELS, K * PIXELS, shares, i + x * J * PIXELS, d, i0, J * PIXELS, J, table, 0)
    for p in range(0, COUNT * PIXELS, LANES):
        store(d, o + p, fma(above, load(d, mixed + p), below * load(d, mixed + K * PIXELS + p)))


@no_type_check
@kernel
def _through_softmax(weights, w, d, i, out, o, area, count):
    """Gradient of the scores from that of the weights, both [9, 32]. `d` has another line of 32 behind it."""
    total = i + COUNT * PIXELS
    for p in range(PIXELS):
        put(d, total + p, 0)
    for n in range(COUNT):
        for p in range(PIXELS):
            value = get(weights, w + n * PIXELS + p) * get(d, i + n * PIXELS + p)
            put(d, total + p, get(d, total + p) + value)
    for n in range(COUNT):
        for p in range(count):
            change = get(d, i + n * PIXELS + p) - get(d, total + p)
            put(out, o + n * area + p, get(weights, w + n * PIXELS + p) * change)


@no_type_check
@shared_kernel
def softmax_window_sum_gradients(
    first_chunk, last_chunk, thread, chunks, cells, cell_rows, H, W, low, h1, w1, C, C8, scores, rows, fy, row_mask,
    columns, shares, inside, J, centred, grad, d_low, d_scores, scratch, size, table,
):  # fmt: skip
    """d_low [chunks, h1, w1, C8], zeroed, and d_scores [images, 9, H, W]. A chunk is some rows of cells of an image."""
    begin = thread * size
    T, taps = (W + PIXELS - 1) // PIXELS, (M * J + PIXELS - 1) // PIXELS * PIXELS
    weights = begin
    panel = weights + (COUNT + 2) * PIXELS
    turned = panel + taps * PIXELS
    raw = turned + taps * PIXELS
    change = raw + (COUNT + 1) * PIXELS
    mixed = change + taps * PIXELS
    pixels = mixed + M * K * PIXELS
    summed = pixels + C8 * PIXELS  # the weights of the sum, where they are not the softmax itself
    window = summed + (COUNT if centred else 0) * PIXELS
    d_window = window + M * J * C8
    if not centred:
        summed = weights
    for i in range(M * J * PIXELS, taps * PIXELS):
        put(scratch, panel + i, 0)
    for i in range(C * PIXELS, C8 * PIXELS):
        put(scratch, pixels + i, 0)
    for chunk in range(first_chunk, last_chunk):
        b, part = chunk // chunks, chunk % chunks
        for cell in range(cells * part // chunks, cells * (part + 1) // chunks):
            row = get(rows, get(cell_rows, cell))
            for t in range(T):
                count = min(PIXELS, W - t * PIXELS)
                column = get(columns, t)
                features_of_tile(low, b * h1 * w1 * C8, w1, C8, row, column, J, scratch, window)
                for i in range(C8 * taps):
                    put(scratch, d_window + i, 0)
                for y in range(get(cell_rows, cell), get(cell_rows, cell + 1)):
                    at = (b * COUNT * H + y) * W + t * PIXELS
                    copied(scores, at, H * W, COUNT, count, scratch, raw)
                    if centred:
                        with_head_start(scratch, raw)
                    softmax(scratch, raw, PIXELS, COUNT, inside, t * K * PIXELS, get(row_mask, y), scratch, weights)
                    if centred:
                        for i in range(COUNT * PIXELS):
                            put(scratch, summed + i, get(scratch, weights + i))
                        from_centre(scratch, summed, inside, t * K * PIXELS, get(row_mask, y))
                    spread(scratch, summed, get(fy, y), shares, t * K * J * PIXELS, J, table, mixed, scratch, panel)
                    copied(grad, (b * C * H + y) * W + t * PIXELS, H * W, C, count, scratch, pixels)
                    for i in range(0, M * J, ROWS):
                        _product(
                            scratch, change + i * PIXELS, PIXELS, scratch, window + i * C8, C8, 1, scratch, pixels,
                            PIXELS, C8, shares, 0, table, 0,
                        )  # fmt: skip
                    _weights_of_columns(scratch, change, get(fy, y), shares, t * K * J * PIXELS, J, table, mixed, raw)
                    _through_softmax(scratch, weights, scratch, raw, d_scores, at, H * W, count)
                    for i in range(0, taps, LANES):
                        for p in range(0, PIXELS, LANES):
                            transpose(scratch, turned + p * taps + i, taps, scratch, panel + i * PIXELS + p, PIXELS)
                    for c in range(0, C8, ROWS):
                        for i in range(0, taps, PIXELS):
                            _more(
                                scratch, d_window + c * taps + i, taps, scratch, pixels + c * PIXELS, PIXELS, 1,
                                scratch, turned + i, taps, PIXELS, shares, 0, table, 0,
                            )  # fmt: skip
                for y in range(M):
                    for j in range(min(J, w1 - column)):
                        target = ((chunk * h1 + row + y) * w1 + column + j) * C8
                        for c in range(C8):
                            value = get(scratch, d_window + c * taps + y * J + j)
                            put(d_low, target + c, get(d_low, target + c) + value)
