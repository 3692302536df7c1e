"""The compiled kernel of attention to windows of a low-resolution map, cell by cell.

All arrays are flat and fp32. The pixels of a cell lie side by side in panels of N columns, a multiple of 32, with what
they see as rows: `compiled.tile`'s product makes scores of keys and queries, and results of values and weights.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import fence, get, put
from resfu.ops.compiled.softmax import exponential
from resfu.ops.compiled.tile import LANES, PIXELS, ROWS, product
from resfu.ops.compiled.transpose import transpose
from resfu.ops.compiled.vector import load, store_past_the_cache

_product = product()


@no_type_check
@kernel
def window_of(x, width, w, rows, r, columns, c, count_rows, count_columns, stride, filled, out, o):
    """What a cell sees of a map [h, w, width], as [filled, stride] with zeros where nothing is."""
    zero, t = types.float32(0.0), 0
    for a in range(count_rows):
        for b in range(count_columns):
            source = (get(rows, r + a) * w + get(columns, c + b)) * width
            for i in range(width):
                put(out, o + t * stride + i, get(x, source + i))
            for i in range(width, stride):
                put(out, o + t * stride + i, zero)
            t += 1
    for i in range(t * stride, filled * stride):
        put(out, o + i, zero)


@no_type_check
@kernel
def queries_of(query, W, D, D16, left, count, rows, N, pixel, p, out, o):
    """A cell's part of the rows [rows, W, D], as [D16, N]; pixels of zeros behind them."""
    zero, n = types.float32(0.0), 0
    for y in range(rows):
        for i in range(count):
            source = (y * W + left + i) * D
            for c in range(D):
                put(pixel, p + n * D16 + c, get(query, source + c))
            for c in range(D, D16):
                put(pixel, p + n * D16 + c, zero)
            n += 1
    for i in range(n * D16, N * D16):
        put(pixel, p + i, zero)
    for n in range(0, N, LANES):
        for c in range(0, D16, LANES):
            transpose(out, o + c * N + n, N, pixel, p + n * D16 + c, D16)


@no_type_check
@kernel
def hide(seen, s, length, places, of, count, rows, N, by_row, out, o):
    """0 or minus infinity [length, N]: what the cell's pixels see along an axis, of seen [P, length]."""
    for t in range(length):
        n = 0
        for y in range(rows):
            for i in range(count):
                pixel = of + y if by_row else places + i
                put(out, o + t * N + n, get(seen, s + pixel * length + t))
                n += 1
        for m in range(n, N):
            put(out, o + t * N + m, types.float32(0.0))


@no_type_check
@kernel
def exponentials(scores, s, taps, columns, masked, by_rows, by_columns, N, work, k):
    """e^(score - greatest) of scores [taps, N] in place; behind them, at `work`, the greatest and 1 / sum, N each."""
    zero, one = types.float32(0.0), types.float32(1.0)
    total = k + N
    for p in range(N):
        put(work, k + p, types.float32(-3.0e38))
        put(work, total + p, zero)
    for t in range(taps):
        if masked:
            row, column = by_rows + t // columns * N, by_columns + t % columns * N
            for p in range(N):
                put(scores, s + t * N + p, get(scores, s + t * N + p) + get(work, row + p) + get(work, column + p))
        for p in range(N):
            value, greatest = get(scores, s + t * N + p), get(work, k + p)
            put(work, k + p, greatest if value <= greatest else value)
    for t in range(taps):
        for p in range(N):
            value = exponential(get(scores, s + t * N + p) - get(work, k + p))
            put(scores, s + t * N + p, value)
            put(work, total + p, get(work, total + p) + value)
    for p in range(N):
        put(work, total + p, one / get(work, total + p))


@no_type_check
@shared_kernel
def attend(
    first_cell, last_cell, thread, query, top, rows, W, D, D16, key, values, C, C8, w, heads, blocks, row_window,
    row_taps, column_window, column_taps, column_first, H, masked, row_seen, column_seen, N, past, out, table, scratch,
    size,
):  # fmt: skip
    """Some rows of out [C, H, W] for some cells of a row of cells.

    Args, beside the sizes: query [rows, W, D], scaled; key [h, w, D]; values [h, w, C]; blocks, 1 where the mean of the
    heads' weights weighs all channels, else heads; the windows of the row [row_taps] and of the cells [w, column_taps];
    column_first [w + 1]; what is seen, 0 or minus infinity, [H, row_taps] and [W, column_taps]; N, pixels of a panel;
    past, whether results are stored past the cache: cells begin at multiples of 16 pixels then.
    """
    begin = thread * size
    taps = row_taps * column_taps
    filled = (taps + ROWS - 1) // ROWS * ROWS
    d, width = D // heads, C // blocks
    width8 = (width + ROWS - 1) // ROWS * ROWS
    keys = begin
    window = keys + filled * D16
    panel = window + filled * C8
    scores = panel + D16 * N
    mean = scores + filled * N
    work = mean + filled * N
    by_rows = work + 2 * N
    by_columns = by_rows + row_taps * N
    result = by_columns + column_taps * N  # [max(width8, D16), N], first the queries pixel by pixel
    share = types.float32(1.0) / types.float32(heads)
    for cell in range(first_cell, last_cell):
        left = get(column_first, cell)
        count = get(column_first, cell + 1) - left
        place = cell * column_taps
        window_of(key, D, w, row_window, 0, column_window, place, row_taps, column_taps, D16, filled, scratch, keys)
        window_of(values, C, w, row_window, 0, column_window, place, row_taps, column_taps, C8, filled, scratch, window)
        queries_of(query, W, D, D16, left, count, rows, N, scratch, result, scratch, panel)
        if masked:
            hide(row_seen, 0, row_taps, left, top, count, rows, N, True, scratch, by_rows)
            hide(column_seen, 0, column_taps, left, top, count, rows, N, False, scratch, by_columns)
        for head in range(heads):
            for t in range(0, filled, ROWS):
                for p in range(0, N, PIXELS):
                    _product(
                        scratch, scores + t * N + p, N, scratch, keys + t * D16 + head * d, D16, 1, scratch,
                        panel + head * d * N + p, N, d, scratch, 0, table, 0,
                    )  # fmt: skip
            exponentials(scratch, scores, taps, column_taps, masked, by_rows, by_columns, N, scratch, work)
            weights = scores
            if blocks == 1 and heads > 1:
                weights = mean
                for t in range(taps):
                    for p in range(N):
                        value = get(scratch, scores + t * N + p) * get(scratch, work + N + p) * share
                        before = types.float32(0.0) if head == 0 else get(scratch, mean + t * N + p)
                        put(scratch, mean + t * N + p, before + value)
                if head < heads - 1:
                    continue
                for p in range(N):
                    put(scratch, work + N + p, types.float32(1.0))
            block = head if blocks > 1 else 0
            for c in range(0, width8, ROWS):
                for p in range(0, N, PIXELS):
                    _product(
                        scratch, result + c * N + p, N, scratch, window + block * width + c, 1, C8, scratch,
                        weights + p, N, taps, scratch, 0, table, 0,
                    )  # fmt: skip
            for c in range(width):
                for y in range(rows):
                    target = ((block * width + c) * H + top + y) * W + left
                    source, factor = result + c * N + y * count, work + N + y * count
                    if past:
                        for i in range(0, count, LANES):
                            value = load(scratch, source + i) * load(scratch, factor + i)
                            store_past_the_cache(out, target + i, value)
                    else:
                        for i in range(count):
                            put(out, target + i, get(scratch, source + i) * get(scratch, factor + i))
    if past:
        fence()
