"""The hidden channels times the gradients of the scores, by compiled kernels. Names of sizes as in `numba_kernels`.

The gradients of GroupNorm need these sums over the image before anything behind it: from the partial scores where
forward kept them, else from the hidden channels, computed once more.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.copy import copied
from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.tile import LANES, PIXELS, ROWS, product
from resfu.ops.compiled.transpose import transpose
from resfu.ops.compiled.vector import fma, load, splat, total
from resfu.ops.similarity.numba_kernels import COUNT, hidden
from resfu.ops.similarity.numba_low import enlarged_pair

_narrow = product(rows=2 * ROWS, vectors=1, start="out")


@no_type_check
@kernel
def correlate(scratch, h, grad, m, width, correlated, place, table):
    """Adds a tile's hidden channels [m, 32] times the gradients of the scores [16, 32] to correlated [m, 16].

    Both lie in scratch, which has room for as many gradients behind these; `width` of the columns count.
    """
    together = grad + LANES * PIXELS
    for p in range(0, width, LANES):
        transpose(scratch, together + p * LANES, LANES, scratch, grad + p, PIXELS)
    for i in range(0, m, 2 * ROWS):
        _narrow(
            correlated, place + i * LANES, LANES, scratch, h + i * PIXELS, PIXELS, 1, scratch, together, LANES, width,
            correlated, 0, table, 0,
        )  # fmt: skip


@no_type_check
@shared_kernel
def weighed_scores(first_row, last_row, thread, H, W, norm_groups, partial, grad, out):
    """out [images H, norm groups], fp64: the partial scores of a row times the gradients of the scores.

    partial [images H, T, norm groups, 9, 32], as `numba_kernels.partial_scores` leaves them; grad [images, 9, H, W].
    """
    T = (W + PIXELS - 1) // PIXELS
    for r in range(first_row, last_row):
        b, y = r // H, r % H
        for group in range(norm_groups):
            lanes, rest = splat(types.float32(0.0)), 0.0
            for t in range(T):
                count = min(PIXELS, W - t * PIXELS)
                place = (b * COUNT * H + y) * W + t * PIXELS
                source = (r * T + t) * norm_groups * COUNT * PIXELS + group * COUNT * PIXELS
                for n in range(COUNT):
                    for p in range(0, count - LANES + 1, LANES):
                        lanes = fma(load(partial, source + n * PIXELS + p), load(grad, place + n * H * W + p), lanes)
                    for p in range(count // LANES * LANES, count):
                        rest += get(partial, source + n * PIXELS + p) * get(grad, place + n * H * W + p)
            put(out, r * norm_groups + group, rest + total(lanes))


@no_type_check
@shared_kernel
def correlations(
    first_chunk, last_chunk, thread, chunks, H, W, planes, D, height, S, table, L, first, bias, second, second_bias,
    grad, correlated, G, M, low, is_low, h1, w1, W1, above, between, columns, J, start_column, scratch, size,
):  # fmt: skip
    """correlated [images, chunks, M, 16], which comes zeroed: of some rows of an image each, all pixels together."""
    begin = thread * size
    T, d, m = (W + PIXELS - 1) // PIXELS, D // G, M // G
    v, h = begin, begin + m * PIXELS
    g_scores = h + m * PIXELS
    wide = g_scores + 2 * LANES * PIXELS
    row, upper, lower, fraction = T * m * PIXELS, begin, begin, types.float32(0.0)
    for i in range(COUNT * PIXELS, LANES * PIXELS):
        put(scratch, g_scores + i, 0)
    for chunk in range(first_chunk, last_chunk):
        b, part = chunk // chunks, chunk % chunks
        for g in range(G):
            held = -1
            for y in range(H * part // chunks, H * (part + 1) // chunks):
                if is_low:
                    line, fraction = b * h1 + get(above, y), get(between, y)
                    held = enlarged_pair(
                        low, line, held, w1, W1, columns, J, start_column, T, G, g, m, bias, table, scratch, wide
                    )
                    upper, lower = wide + line % 2 * row, wide + (line + 1) % 2 * row
                for t in range(T):
                    count = min(PIXELS, W - t * PIXELS)
                    hidden(
                        planes, (b * get(table, L) + g * d) * height * S + y * S + t * PIXELS, table, L, first, bias,
                        second, second_bias, is_low, upper + t * m * PIXELS, lower + t * m * PIXELS, fraction, m, g, v,
                        h, scratch, count,
                    )  # fmt: skip
                    copied(grad, (b * COUNT * H + y) * W + t * PIXELS, H * W, COUNT, count, scratch, g_scores)
                    width = PIXELS if count > LANES else LANES
                    correlate(scratch, h, g_scores, m, width, correlated, (chunk * M + g * m) * LANES, table)
