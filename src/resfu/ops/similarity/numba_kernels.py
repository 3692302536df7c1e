"""The compiled kernels of the similarity scores, on tiles of 32 pixels of a row.

All arrays are flat and fp32, maps planar with a row of pixels together. Names of sizes: D and M, the widths of the
maps and of the hidden channels; d and m, those of one of G groups; L, the inputs of a group's first convolution (its
taps, then its query); T, tiles of a row; S, elements of a padded row; J, low-resolution columns that a tile lies
between. A group's 14 kB of weights and hidden channels of a tile stay in the innermost cache.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import fence, get, put
from resfu.ops.compiled.tile import LANES, PIXELS, ROWS, product
from resfu.ops.compiled.vector import fma, load, splat, store
from resfu.ops.similarity.numba_low import between_rows, enlarged_pair

COUNT = 9  # neighbours, K K
FEW = 4  # rows of a product over low-resolution columns

_from_bias_relu = product(start="bias", tables="x", relu=True, halves=True)
_more_relu = product(start="out", tables="x", relu=True, halves=True)
_layer_relu = product(start="bias", relu=True, halves=True)
_weighted = product(rows=1, start="bias")
_scores, _past_the_cache = product(rows=COUNT, halves=True), product(rows=COUNT, halves=True, streaming=True)


@no_type_check
@kernel
def hidden(
    planes, place, table, L, first, bias, second, second_bias, low, upper, lower, between, m, g, v, h, scratch, count
):
    """v and h [m, 32] in scratch: both layers of a tile.

    With `low` the first layer begins between two enlarged rows of scratch, which hold its bias. Of a tile of at most 16
    pixels only so many columns are computed.
    """
    if low:
        between_rows(scratch, upper, lower, between, m, count, v)
    for i in range(0, m, ROWS):
        if low:
            _more_relu(
                scratch, v + i * PIXELS, PIXELS, first, g * L * m + i, 1, m, planes, place, 0, L, bias, 0, table, 0,
                count,
            )  # fmt: skip
        else:
            _from_bias_relu(
                scratch, v + i * PIXELS, PIXELS, first, g * L * m + i, 1, m, planes, place, 0, L, bias, g * m + i,
                table, 0, count,
            )  # fmt: skip
    for i in range(0, m, ROWS):
        _layer_relu(
            scratch, h + i * PIXELS, PIXELS, second, g * m * m + i, 1, m, scratch, v, PIXELS, m, second_bias,
            g * m + i, table, 0, count,
        )  # fmt: skip


@no_type_check
@kernel
def _add_moments(x, o, rows, out, place):
    """Adds some rows of 32 numbers to out [2, 16], and their squares."""
    nothing = splat(types.float32(0.0))
    left, right, left_square, right_square = nothing, nothing, nothing, nothing
    for p in range(o, o + rows * PIXELS, PIXELS):
        one, other = load(x, p), load(x, p + LANES)
        left, right = left + one, right + other
        left_square, right_square = fma(one, one, left_square), fma(other, other, right_square)
    store(out, place, load(out, place) + (left + right))
    store(out, place + LANES, load(out, place + LANES) + (left_square + right_square))


@no_type_check
@shared_kernel
def partial_scores(
    first_row, last_row, thread, H, W, planes, D, height, S, table, L, first, bias, second, second_bias, weights,
    norm_groups, G, M, low, is_low, h1, w1, W1, above, between, columns, J, start_column, partial, streaming, sums,
    scratch, size,
):  # fmt: skip
    """Scores of each group of GroupNorm apart, without its statistics, and the sums that give these.

    partial [images H, T, norm groups, 9, 32]; sums [images H, 2, norm groups], of hidden channels and of their squares.
    """
    begin = thread * size
    T, d, m, width = (W + PIXELS - 1) // PIXELS, D // G, M // G, M // norm_groups
    v, h = begin, begin + m * PIXELS
    total = h + m * PIXELS
    wide, upper, lower, fraction = total + m // width * PIXELS, begin, begin, types.float32(0.0)
    row = T * m * PIXELS
    for g in range(G):  # one after the other: what the rows of a group share stays in the cache
        held = -1
        for r in range(first_row, last_row):
            b, y = r // H, r % H
            if is_low:
                line, fraction = b * h1 + get(above, y), get(between, y)
                held = enlarged_pair(
                    low, line, held, w1, W1, columns, J, start_column, T, G, g, m, bias, table, scratch, wide
                )
                upper, lower = wide + line % 2 * row, wide + (line + 1) % 2 * row
            for i in range(m // width * PIXELS):
                put(scratch, total + i, 0)
            for t in range(T):
                place = (b * get(table, L) + g * d) * height * S + y * S + t * PIXELS
                count = min(PIXELS, W - t * PIXELS)
                hidden(
                    planes, place, table, L, first, bias, second, second_bias, is_low, upper + t * m * PIXELS,
                    lower + t * m * PIXELS, fraction, m, g, v, h, scratch, count,
                )  # fmt: skip
                for i in range(h, h + m * PIXELS, PIXELS):
                    for p in range(i + count, i + PIXELS):
                        put(scratch, p, 0)
                for n in range(m // width):
                    group = g * (m // width) + n
                    _add_moments(scratch, h + n * width * PIXELS, width, scratch, total + n * PIXELS)
                    place = ((r * T + t) * norm_groups + group) * COUNT * PIXELS
                    channels, layer = h + n * width * PIXELS, group * width * COUNT
                    if streaming:
                        _past_the_cache(
                            partial, place, PIXELS, weights, layer, 1, COUNT, scratch, channels, PIXELS, width, bias, 0,
                            table, 0, count,
                        )  # fmt: skip
                    else:
                        _scores(
                            partial, place, PIXELS, weights, layer, 1, COUNT, scratch, channels, PIXELS, width, bias, 0,
                            table, 0, count,
                        )  # fmt: skip
            for n in range(m // width):
                value, square = 0.0, 0.0
                for lane in range(total + n * PIXELS, total + n * PIXELS + LANES):
                    value += get(scratch, lane)
                    square += get(scratch, lane + LANES)
                group = g * (m // width) + n
                put(sums, r * 2 * norm_groups + group, value)
                put(sums, (r * 2 + 1) * norm_groups + group, square)
    fence()


@no_type_check
@kernel
def group_statistics(
    images, H, W, norm_groups, M, sums, score_weight, score_bias, norm_weight, norm_bias, eps, mean, inverse, scale,
    shift,
):  # fmt: skip
    """Mean and inverse deviation of each group, in fp64, and what `total_scores` takes: scale and shift.

    All of [images, norm groups] but the shift, [images, 9].
    """
    width = M // norm_groups
    for b in range(images):
        for n in range(norm_groups):
            total, square = 0.0, 0.0
            for y in range(b * H, (b + 1) * H):
                total += get(sums, y * 2 * norm_groups + n)
                square += get(sums, (y * 2 + 1) * norm_groups + n)
            middle = total / (H * W * width)
            variance = square / (H * W * width) - middle * middle
            variance = 0.0 if variance < 0.0 else variance
            put(mean, b * norm_groups + n, middle)
            put(inverse, b * norm_groups + n, 1.0 / (variance + eps) ** 0.5)
            put(scale, b * norm_groups + n, types.float32(get(inverse, b * norm_groups + n)))
        for k in range(COUNT):
            value = types.float64(get(score_bias, k))
            for i in range(M):
                moved = get(mean, b * norm_groups + i // width) * get(inverse, b * norm_groups + i // width)
                change = types.float64(get(norm_bias, i)) - moved * types.float64(get(norm_weight, i))
                value += types.float64(get(score_weight, k * M + i)) * change
            put(shift, b * COUNT + k, types.float32(value))


@no_type_check
@shared_kernel
def total_scores(first_row, last_row, thread, H, W, partial, norm_groups, inverse, shift, out, table, scratch):
    """out [images, 9, H, W]: the sum over the groups, each by 1 / its deviation [images, norm groups], and a shift."""
    begin = thread * PIXELS
    T = (W + PIXELS - 1) // PIXELS
    for r in range(first_row, last_row):
        b, y = r // H, r % H
        for t in range(T):
            count = min(PIXELS, W - t * PIXELS)
            for n in range(COUNT):
                target = ((b * COUNT + n) * H + y) * W + t * PIXELS
                source = ((r * T + t) * norm_groups * COUNT + n) * PIXELS
                if count == PIXELS:
                    _weighted(
                        out, target, 0, inverse, b * norm_groups, 0, 1, partial, source, COUNT * PIXELS, norm_groups,
                        shift, b * COUNT + n, table, 0,
                    )  # fmt: skip
                else:
                    _weighted(
                        scratch, begin, 0, inverse, b * norm_groups, 0, 1, partial, source, COUNT * PIXELS, norm_groups,
                        shift, b * COUNT + n, table, 0,
                    )  # fmt: skip
                    for p in range(count):
                        put(out, target + p, get(scratch, begin + p))
