"""The compiled kernels of the scores' gradients. Names of sizes as in `numba_kernels`.

A chunk is some rows of an image. Each has sums of its own, which are added up in the order of the chunks: which thread
did what does not show. The hidden channels of a tile are computed once more: to write and read them takes longer. What
GroupNorm's statistics need before that, comes from the partial scores.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.copy import copied
from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.tile import LANES, PIXELS, ROWS, product
from resfu.ops.compiled.transpose import transpose
from resfu.ops.compiled.vector import load, splat, store, where_positive
from resfu.ops.similarity.numba_correlations import correlate
from resfu.ops.similarity.numba_kernels import COUNT, FEW, hidden
from resfu.ops.similarity.numba_low import enlarged_pair

_product = product(halves=True)
_into = product(start="out")
_of_rows = product(start="out", tables="w")
_into_rows = product(start="out", tables="o", halves=True)
_few = product(rows=FEW, start="out")


@no_type_check
@kernel
def _add_rows(x, a, stride, count, out, o):
    """Adds 16 numbers of each of some rows, a multiple of 4, to out."""
    one, two, three, four = load(out, o), load(x, a + stride), load(x, a + 2 * stride), load(x, a + 3 * stride)
    one = one + load(x, a)
    for p in range(4, count, 4):
        place = a + p * stride
        one, two = one + load(x, place), two + load(x, place + stride)
        three, four = three + load(x, place + 2 * stride), four + load(x, place + 3 * stride)
    store(out, o, (one + two) + (three + four))


@no_type_check
@kernel
def _clear(x, begin, planes, height, S, first, last):
    """0 into rows first .. last - 1 of planes [height, S]."""
    zero = splat(types.float32(0.0))
    for plane in range(planes):
        start, end = begin + (plane * height + first) * S, begin + (plane * height + last) * S
        whole = start + (end - start) // LANES * LANES
        for p in range(start, whole, LANES):
            store(x, p, zero)
        for p in range(whole, end):
            put(x, p, types.float32(0.0))


@no_type_check
@kernel
def through_norm(
    images, H, W, M, norm_groups, weighed, sums, score_weight, norm_weight, mean, inverse, scale, shift, slope
):
    """From sums over the image to what `gradients` takes: scale, shift and slope.

    weighed [images, norm groups]: the gradient behind GroupNorm times its weight and the hidden channels. sums [images,
    9], of the scores' gradients.
    """
    width = M // norm_groups
    pixels = H * W * width
    for b in range(images):
        for n in range(norm_groups):
            middle, deviation = get(mean, b * norm_groups + n), get(inverse, b * norm_groups + n)
            times = get(weighed, b * norm_groups + n)
            plain = 0.0  # sum of the gradient behind GroupNorm, times its weight
            for i in range(n * width, (n + 1) * width):
                gamma = types.float64(get(norm_weight, i))
                for k in range(COUNT):
                    weight = gamma * types.float64(get(score_weight, k * M + i))
                    plain += weight * get(sums, b * COUNT + k)
                    put(scale, (b * COUNT + k) * M + i, types.float32(weight * deviation))
            steep = deviation * deviation * deviation * (times - middle * plain) / pixels
            for i in range(n * width, (n + 1) * width):
                put(slope, b * M + i, types.float32(steep))
                put(shift, b * M + i, types.float32(deviation * plain / pixels - middle * steep))


@no_type_check
@kernel
def parameters_of_norm(
    images, chunks, M, norm_groups, correlated, sums, score_weight, norm_weight, norm_bias, mean, inverse, d_weight,
    d_bias, d_score,
):  # fmt: skip
    """The gradients of GroupNorm, d_weight and d_bias [M], and of the last layer, d_score [9, M], all in fp64, zeroed.

    correlated [images, chunks, M, 16]: the hidden channels times the gradients of the scores, whose sums are sums
    [images, 9].
    """
    width = M // norm_groups
    for b in range(images):
        for i in range(M):
            middle, deviation = get(mean, b * norm_groups + i // width), get(inverse, b * norm_groups + i // width)
            gamma, beta = types.float64(get(norm_weight, i)), types.float64(get(norm_bias, i))
            for n in range(COUNT):
                weight, together = types.float64(get(score_weight, n * M + i)), 0.0
                for part in range(chunks):
                    together += get(correlated, ((b * chunks + part) * M + i) * LANES + n)
                whole = get(sums, b * COUNT + n)
                normalised = (together - whole * middle) * deviation
                put(d_score, n * M + i, get(d_score, n * M + i) + normalised * gamma + whole * beta)
                put(d_weight, i, get(d_weight, i) + weight * normalised)
                put(d_bias, i, get(d_bias, i) + weight * whole)


@no_type_check
@shared_kernel
def gradients(
    first_chunk, last_chunk, thread, chunks, H, W, planes, D, height, S, table, L, first, bias, second, second_bias,
    grad, scale, shift, slope, d_planes, d_height, d_before, d_table, d_low, correlated, correlates, d_first, d_bias,
    d_second, d_second_bias, G, M, low, is_low, h1, w1, W1, above, between, columns, J, start_column, scratch, size,
):  # fmt: skip
    """Gradients in the planes, the convolved LR key and the layers, a share for each chunk.

    All but d_planes come zeroed. d_before, rows of these that lie above and below those of a chunk, together.

    scale [images, 9, M], shift and slope [images, M]: the gradient of hidden channels h is
    scale^T grad - shift - slope h. correlated: see `parameters_of_norm`, added to where `correlates` is set.
    """
    begin = thread * size
    T, d, m, area = (W + PIXELS - 1) // PIXELS, D // G, M // G, PIXELS * (M // G)
    v, h, dv, dh = begin, begin + area, begin + 2 * area, begin + 3 * area
    dv_last, dh_last, g_scores = begin + 4 * area, begin + 5 * area, begin + 6 * area
    together = g_scores + LANES * PIXELS
    wide = together + LANES * PIXELS
    row, upper, lower, fraction = T * m * PIXELS, begin, begin, types.float32(0.0)
    d_row = wide + 2 * row
    for i in range(COUNT * PIXELS, LANES * PIXELS):
        put(scratch, g_scores + i, 0)
    for chunk in range(first_chunk, last_chunk):
        b, part = chunk // chunks, chunk % chunks
        top = H * part // chunks
        for g in range(G):  # one after the other: what the rows of a group share stays in the cache
            held, d_begin = -1, (chunk * get(table, L) + g * d) * d_height * S
            d_query = d_begin if is_low else d_begin + D * d_height * S
            for y in range(top, H * (part + 1) // chunks):
                cleared, last_cleared = 0 if y == top else y - top + d_before, y - top + d_before + 1
                _clear(d_planes, d_query, d, d_height, S, cleared, last_cleared)
                if is_low:
                    line, fraction = b * h1 + get(above, y), get(between, y)
                    held = enlarged_pair(
                        low, line, held, w1, W1, columns, J, start_column, T, G, g, m, bias, table, scratch, wide
                    )
                    upper, lower = wide + line % 2 * row, wide + (line + 1) % 2 * row
                    for i in range((w1 + J) * m):
                        put(scratch, d_row + i, 0)
                else:
                    _clear(d_planes, d_begin, d, d_height, S, cleared, last_cleared)
                for t in range(T):
                    count = min(PIXELS, W - t * PIXELS)
                    width = PIXELS if count > LANES else LANES
                    place = (b * get(table, L) + g * d) * height * S + y * S + t * PIXELS
                    d_place = d_begin + (y - top) * S + t * PIXELS
                    hidden(
                        planes, place, table, L, first, bias, second, second_bias, is_low,
                        upper + t * m * PIXELS, lower + t * m * PIXELS, fraction, m, g, v, h, scratch,
                        count,
                    )  # fmt: skip
                    copied(grad, (b * COUNT * H + y) * W + t * PIXELS, H * W, COUNT, count, scratch, g_scores)
                    if correlates:
                        correlate(scratch, h, g_scores, m, width, correlated, (chunk * M + g * m) * LANES, table)
                    for i in range(0, m, ROWS):
                        _product(
                            scratch, dh + i * PIXELS, PIXELS, scale, b * COUNT * M + g * m + i, 1, M, scratch, g_scores,
                            PIXELS, COUNT, bias, 0, table, 0, count,
                        )  # fmt: skip
                    for i in range(m):
                        c, e = splat(get(shift, b * M + g * m + i)), splat(get(slope, b * M + g * m + i))
                        for p in range(i * PIXELS, i * PIXELS + width, LANES):
                            value = load(scratch, h + p)
                            store(scratch, dh + p, where_positive(value, load(scratch, dh + p) - c - e * value))
                        for p in range(i * PIXELS + count, i * PIXELS + width):
                            put(scratch, dh + p, 0)
                    for i in range(0, m, ROWS):
                        _product(  # in the place of h, whose values are no longer needed
                            scratch, h + i * PIXELS, PIXELS, second, (g * m + i) * m, m, 1, scratch, dh, PIXELS, m,
                            bias, 0, table, 0, count,
                        )  # fmt: skip
                    for i in range(m):
                        for p in range(i * PIXELS, i * PIXELS + width, LANES):
                            store(scratch, dv + p, where_positive(load(scratch, v + p), load(scratch, h + p)))
                    for i in range(0, m, LANES):
                        for p in range(0, width, LANES):
                            transpose(scratch, dh_last + p * m + i, m, scratch, dh + i * PIXELS + p, PIXELS)
                            transpose(scratch, dv_last + p * m + i, m, scratch, dv + i * PIXELS + p, PIXELS)
                        _add_rows(scratch, dh_last + i, m, width, d_second_bias, chunk * M + g * m + i)
                        _add_rows(scratch, dv_last + i, m, width, d_bias, chunk * M + g * m + i)
                    for c in range(0, m, PIXELS):
                        for i in range(0, m, ROWS):
                            _into(
                                d_second, (chunk * M + g * m + i) * m + c, m, scratch, v + i * PIXELS, PIXELS, 1,
                                scratch, dh_last + c, m, width, bias, 0, table, 0,
                            )  # fmt: skip
                        for k in range(0, L, ROWS):
                            _of_rows(
                                d_first, (chunk * G + g) * L * m + k * m + c, m, planes, place, 0, 1, scratch,
                                dv_last + c, m, width, bias, 0, table, k,
                            )  # fmt: skip
                        if is_low:
                            for j in range(0, J, FEW):
                                _few(
                                    scratch, d_row + (get(start_column, t) + j) * m + c, m, columns,
                                    (t * J + j) * PIXELS, PIXELS, 1, scratch, dv_last + c, m, width, bias, 0, table, 0,
                                )  # fmt: skip
                    for k in range(0, L, ROWS):
                        _into_rows(
                            d_planes, d_place, 0, first, (g * L + k) * m, m, 1, scratch, dv, PIXELS, m, bias, 0,
                            d_table, k, count,
                        )  # fmt: skip
                if is_low:
                    a = (chunk * h1 + get(above, y)) * w1 * M + g * m
                    for q in range(w1):
                        for i in range(m):
                            change = get(scratch, d_row + q * m + i)
                            beyond = fraction * change
                            upper_place, lower_place = a + q * M + i, a + (w1 + q) * M + i
                            put(d_low, upper_place, get(d_low, upper_place) + change - beyond)
                            put(d_low, lower_place, get(d_low, lower_place) + beyond)
