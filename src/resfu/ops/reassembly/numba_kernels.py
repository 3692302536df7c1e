"""The compiled kernel of the window sum between four low-resolution centres ("fine"), on tiles of 32 pixels of a row.

All arrays are flat and fp32. A tile's windows reach J low-resolution columns in each of M rows. These are the inputs of
one product of matrices with weights that are mostly 0: M J inputs instead of M M, and vectors of pixels instead of a
gather. C8 is the number of channels, filled up to a multiple of 8.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import fence, get, put
from resfu.ops.compiled.softmax import softmax
from resfu.ops.compiled.tile import LANES, PIXELS, ROWS, product
from resfu.ops.compiled.transpose import transpose

K, M = 3, 4
COUNT = K * K

_product, _past_the_cache = product(), product(streaming=True)
_narrow = product(vectors=1, start="out")


@no_type_check
@kernel
def row_of_scores(scores, s, stride, width, out, o):
    """COUNT rows of a tile, with zeros behind its pixels."""
    for n in range(COUNT):
        for p in range(width):
            put(out, o + n * PIXELS + p, get(scores, s + n * stride + p))
        for p in range(width, PIXELS):
            put(out, o + n * PIXELS + p, 0)


@no_type_check
@kernel
def spread(weights, w, fy, fraction, f, place, i, J, out, o):
    """The weights [3, 3, 32] of neighbours as those of low-resolution columns: out [4, J, 32].

    fraction [32] is each pixel's way to the next column, place [32] its first column in the tile's.
    """
    zero, one = types.float32(0.0), types.float32(1.0)
    for n in range(M * J * PIXELS):
        put(out, o + n, zero)
    for y in range(M):
        for p in range(PIXELS):
            target = o + (y * J + get(place, i + p)) * PIXELS + p
            fx, last = get(fraction, f + p), zero
            for x in range(K):
                value = zero
                if y < K:
                    value += (one - fy) * get(weights, w + (y * K + x) * PIXELS + p)
                if y > 0:
                    value += fy * get(weights, w + ((y - 1) * K + x) * PIXELS + p)
                beyond = fx * value
                put(out, target + x * PIXELS, last + value - beyond)
                last = beyond
            put(out, target + K * PIXELS, last)


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
    first_cell, last_cell, thread, cells, cell_rows, H, W, low, h1, w1, C, C8, scores, rows, fy, row_mask, columns, fx,
    place, inside, J, out, streaming, scratch, size, table,
):  # fmt: skip
    """out [images, C, H, W] of features [images, h1, w1, C8] and the softmax of scores [images, 9, H, W].

    A task is a row of cells of an image: cell_rows [cells + 1] are their first rows of pixels.
    """
    begin = thread * size
    T = (W + PIXELS - 1) // PIXELS
    weights = begin
    panel = weights + (COUNT + 2) * PIXELS
    edge = panel + M * J * PIXELS
    raw = edge + ROWS * PIXELS
    window = raw + COUNT * PIXELS
    for task in range(first_cell, last_cell):
        b, cell = task // cells, task % cells
        for t in range(T):
            count = min(PIXELS, W - t * PIXELS)
            features_of_tile(
                low, b * h1 * w1 * C8, w1, C8, get(rows, get(cell_rows, cell)), get(columns, t), J, scratch, window
            )
            for y in range(get(cell_rows, cell), get(cell_rows, cell + 1)):
                row_of_scores(scores, (b * COUNT * H + y) * W + t * PIXELS, H * W, count, scratch, raw)
                softmax(scratch, raw, PIXELS, COUNT, inside, t * K * PIXELS, get(row_mask, y), scratch, weights)
                spread(scratch, weights, get(fy, y), fx, t * PIXELS, place, t * PIXELS, J, scratch, panel)
                for c in range(0, C, ROWS):
                    target = ((b * C + c) * H + y) * W + t * PIXELS
                    if streaming and count == PIXELS and c + ROWS <= C:
                        _past_the_cache(
                            out, target, H * W, scratch, window + c, 1, C8, scratch, panel, PIXELS, M * J, fx, 0, table,
                            0,
                        )  # fmt: skip
                    elif count == PIXELS and c + ROWS <= C:
                        _product(
                            out, target, H * W, scratch, window + c, 1, C8, scratch, panel, PIXELS, M * J, fx, 0, table,
                            0,
                        )  # fmt: skip
                    else:
                        _product(
                            scratch, edge, PIXELS, scratch, window + c, 1, C8, scratch, panel, PIXELS, M * J, fx, 0,
                            table, 0,
                        )  # fmt: skip
                        for i in range(min(ROWS, C - c)):
                            for p in range(count):
                                put(out, target + i * H * W + p, get(scratch, edge + i * PIXELS + p))
    fence()


@no_type_check
@kernel
def _grad_of_tile(grad, g, area, C, C8, count, out, o):
    """[C8, 32] of a tile, 0 behind its pixels and channels."""
    for c in range(C):
        for p in range(count):
            put(out, o + c * PIXELS + p, get(grad, g + c * area + p))
        for p in range(count, PIXELS):
            put(out, o + c * PIXELS + p, 0)
    for i in range(C * PIXELS, C8 * PIXELS):
        put(out, o + i, 0)


@no_type_check
@kernel
def _weights_of_columns(d, i0, fy, fraction, f, place, i, J, out, o):
    """The adjoint of `spread`: d [4, J, 32] to out [3, 3, 32]."""
    one = types.float32(1.0)
    for y in range(K):
        for x in range(K):
            for p in range(PIXELS):
                source = i0 + (y * J + get(place, i + p) + x) * PIXELS + p
                fx = get(fraction, f + p)
                above = get(d, source) * (one - fx) + get(d, source + PIXELS) * fx
                source += J * PIXELS
                below = get(d, source) * (one - fx) + get(d, source + PIXELS) * fx
                put(out, o + (y * K + x) * PIXELS + p, above * (one - fy) + below * fy)


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
    columns, fx, place, inside, J, grad, d_low, d_scores, scratch, size, table,
):  # fmt: skip
    """d_low [chunks, h1, w1, C8], zeroed, and d_scores [images, 9, H, W]. A chunk is some rows of cells of an image."""
    begin = thread * size
    T, taps = (W + PIXELS - 1) // PIXELS, (M * J + LANES - 1) // LANES * LANES
    weights = begin
    panel = weights + (COUNT + 2) * PIXELS
    turned = panel + taps * PIXELS
    raw = turned + taps * PIXELS
    change = raw + (COUNT + 1) * PIXELS
    pixels = change + taps * PIXELS
    window = pixels + C8 * PIXELS
    d_window = window + M * J * C8
    for i in range(M * J * PIXELS, taps * PIXELS):
        put(scratch, panel + i, 0)
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
                    row_of_scores(scores, at, H * W, count, scratch, raw)
                    softmax(scratch, raw, PIXELS, COUNT, inside, t * K * PIXELS, get(row_mask, y), scratch, weights)
                    spread(scratch, weights, get(fy, y), fx, t * PIXELS, place, t * PIXELS, J, scratch, panel)
                    _grad_of_tile(grad, (b * C * H + y) * W + t * PIXELS, H * W, C, C8, count, scratch, pixels)
                    for i in range(0, M * J, ROWS):
                        _product(
                            scratch, change + i * PIXELS, PIXELS, scratch, window + i * C8, C8, 1, scratch, pixels,
                            PIXELS, C8, fx, 0, table, 0,
                        )  # fmt: skip
                    _weights_of_columns(scratch, change, get(fy, y), fx, t * PIXELS, place, t * PIXELS, J, scratch, raw)
                    _through_softmax(scratch, weights, scratch, raw, d_scores, at, H * W, count)
                    for i in range(0, taps, LANES):
                        for p in range(0, PIXELS, LANES):
                            transpose(scratch, turned + p * taps + i, taps, scratch, panel + i * PIXELS + p, PIXELS)
                    for c in range(0, C8, ROWS):
                        for i in range(0, taps, LANES):
                            _narrow(
                                scratch, d_window + c * taps + i, taps, scratch, pixels + c * PIXELS, PIXELS, 1,
                                scratch, turned + i, taps, PIXELS, fx, 0, table, 0,
                            )  # fmt: skip
                for y in range(M):
                    for j in range(min(J, w1 - column)):
                        target = ((chunk * h1 + row + y) * w1 + column + j) * C8
                        for c in range(C8):
                            value = get(scratch, d_window + c * taps + y * J + j)
                            put(d_low, target + c, get(d_low, target + c) + value)
