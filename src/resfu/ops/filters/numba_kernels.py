"""The compiled guided filter with stride 1 and its gradients, channel by channel.

All arrays are flat. The planes of a channel lie in a thread's scratch, see `numba_windows`. share [P + H] holds
1 / (pixels of a window in its row) of every column, with zeros behind them, then the same of every row.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.tile import LANES
from resfu.ops.compiled.vector import fma, load, splat, store, where_positive
from resfu.ops.filters.numba_enlarged import enlarged, shrunk
from resfu.ops.filters.numba_windows import SUMS, column_sums, into_plane, mean, out_of_line, sums_beside, window_sum

PLANES = 8  # of scratch, [H, P]


def room(H: int, P: int, radius: int) -> tuple[int, int]:
    """How many numbers of scratch a thread takes, and how many of them are a line of sums."""
    length, line = 2 * radius + 1, P + 2 * (radius + -radius % LANES)
    return PLANES * H * P + (SUMS * (length + 2) + 1) * line + 2 * length * LANES, line


@no_type_check
@kernel
def _beside(s, sums, fours, i, kinds, line, length):
    """`sums_beside` of row i of some kinds of sums."""
    for kind in range(kinds):
        sums_beside(s, sums + (kind * length + i) * line, line, fours + kind * line)


@no_type_check
@kernel
def _coefficients(share, H, P, radius, eps, s, begin, sums, line, keep):
    """From the planes g and x to m, and n behind it; or with `keep` to mean g, mean x, 1 / (variance + eps) and m."""
    n, length, inset = H * P, 2 * radius + 1, -radius % LANES
    g, full, m = begin, begin + n, begin + 5 * n
    fours = sums + SUMS * length * line
    seam = fours + 2 * SUMS * line
    one, ridge = splat(types.float32(1.0)), splat(eps)
    for first in range(0, H, length):
        count = min(length, H - first)
        column_sums(s, g, g, True, first, count, H, P, radius, seam, sums, line)
        column_sums(s, full, g, True, first, count, H, P, radius, seam, sums + 2 * length * line, line)
        for i in range(count):
            _beside(s, sums, fours, i, 4, line, length)
            row = splat(get(share, P + first + i))
            for p in range(0, P, LANES):
                weight = load(share, p) * row
                mean_g = window_sum(s, sums + i * line, fours, line, p + inset, length) * weight
                square = window_sum(s, sums + (length + i) * line, fours + line, line, p + inset, length) * weight
                mean_x = (
                    window_sum(s, sums + (2 * length + i) * line, fours + 2 * line, line, p + inset, length) * weight
                )
                both = window_sum(s, sums + (3 * length + i) * line, fours + 3 * line, line, p + inset, length) * weight
                variance = square - mean_g * mean_g
                inverse = one / (variance + ridge)
                if eps == types.float32(0.0):
                    inverse = where_positive(variance, inverse)
                slope = (both - mean_g * mean_x) * inverse
                place = (first + i) * P + p
                store(s, m + place, slope)
                if keep:
                    store(s, begin + 2 * n + place, mean_g)
                    store(s, begin + 3 * n + place, mean_x)
                    store(s, begin + 4 * n + place, inverse)
                else:
                    store(s, m + n + place, mean_x - slope * mean_g)


@no_type_check
@shared_kernel
def guided_filter(first_plane, last_plane, thread, guide, x, share, H, W, P, radius, eps, out, s, size, line):
    """out, planes [H, W], of planes guide and x."""
    begin = thread * size
    n, length, inset = H * P, 2 * radius + 1, -radius % LANES
    sums = begin + PLANES * n
    fours = sums + SUMS * length * line
    seam = fours + 2 * SUMS * line
    spare = seam + 2 * length * LANES
    for i in range(sums, spare + line):
        put(s, i, types.float32(0.0))
    for plane in range(first_plane, last_plane):
        start = plane * H * W
        into_plane(guide, start, mean(guide, start, H * W), H, W, P, s, begin)
        origin = mean(x, start, H * W)
        into_plane(x, start, origin, H, W, P, s, begin + n)
        height = splat(origin)
        _coefficients(share, H, P, radius, eps, s, begin, sums, line, False)
        for first in range(0, H, length):
            count = min(length, H - first)
            column_sums(s, begin + 5 * n, begin + 6 * n, False, first, count, H, P, radius, seam, sums, line)
            for i in range(count):
                y = first + i
                _beside(s, sums, fours, i, 2, line, length)
                row = splat(get(share, P + y))
                for p in range(0, P, LANES):
                    weight = load(share, p) * row
                    slope = window_sum(s, sums + i * line, fours, line, p + inset, length) * weight
                    offset = window_sum(s, sums + (length + i) * line, fours + line, line, p + inset, length) * weight
                    store(s, spare + p, fma(slope, load(s, begin + y * P + p), offset) + height)
                out_of_line(s, spare, W, out, start + y * W)


@no_type_check
@kernel
def _gradients_of_means(share, H, P, radius, s, begin, sums, line):
    """From c, the gradient of the result times its window's share, to those of the four means, times theirs.

    They take the places of mean g (of g g), mean x (of g x), the inverse (of g) and of the eighth plane (of x).
    """
    n, length, inset = H * P, 2 * radius + 1, -radius % LANES
    fours = sums + SUMS * length * line
    seam = fours + 2 * SUMS * line
    two = splat(types.float32(2.0))
    zero = splat(types.float32(0.0))
    for first in range(0, H, length):
        count = min(length, H - first)
        column_sums(s, begin + 6 * n, begin, True, first, count, H, P, radius, seam, sums, line)
        for i in range(count):
            _beside(s, sums, fours, i, 2, line, length)
            row = splat(get(share, P + first + i))
            for p in range(0, P, LANES):
                place = begin + (first + i) * P + p
                shift = window_sum(s, sums + i * line, fours, line, p + inset, length)  # in mean x - m mean g
                change = window_sum(s, sums + (length + i) * line, fours + line, line, p + inset, length)  # in m
                mean_g, mean_x = load(s, place + 2 * n), load(s, place + 3 * n)
                slope, weight = load(s, place + 5 * n), load(share, p) * row
                covariance = (change - mean_g * shift) * load(s, place + 4 * n)
                variance = zero - covariance * slope
                store(s, place + 2 * n, variance * weight)
                store(s, place + 3 * n, covariance * weight)
                of_guide = zero - slope * shift - covariance * mean_x - two * variance * mean_g
                store(s, place + 4 * n, of_guide * weight)
                store(s, place + 7 * n, (shift - covariance * mean_g) * weight)


@no_type_check
@shared_kernel
def guided_filter_gradients(
    first_plane, last_plane, thread, guide, x, grad, share, H, W, P, radius, eps, above, between, h, w, d_guide, d_x,
    s, size, line,
):  # fmt: skip
    """Gradients in the planes guide and x [h, w]: the same sums of windows once more."""
    begin = thread * size
    n, length, inset = H * P, 2 * radius + 1, -radius % LANES
    sums = begin + PLANES * n
    fours = sums + SUMS * length * line
    seam = fours + 2 * SUMS * line
    spare = seam + 2 * length * LANES
    kinds = length * line
    two = splat(types.float32(2.0))
    for i in range(sums, spare + line):
        put(s, i, types.float32(0.0))
    for plane in range(first_plane, last_plane):
        start = plane * H * W
        into_plane(guide, start, mean(guide, start, H * W), H, W, P, s, begin)
        if h < H or w < W:
            enlarged(x, plane * h * w, H, W, P, above, between, h, w, begin + 2 * n, s, begin + n)
        else:
            into_plane(x, start, mean(x, start, H * W), H, W, P, s, begin + n)
        _coefficients(share, H, P, radius, eps, s, begin, sums, line, True)
        into_plane(grad, start, types.float32(0.0), H, W, P, s, begin + 6 * n)
        for y in range(H):
            row = splat(get(share, P + y))
            for p in range(0, P, LANES):
                place = begin + 6 * n + y * P + p
                store(s, place, load(s, place) * (load(share, p) * row))
        _gradients_of_means(share, H, P, radius, s, begin, sums, line)
        into_plane(grad, start, types.float32(0.0), H, W, P, s, begin + 6 * n)
        for first in range(0, H, length):
            count = min(length, H - first)
            column_sums(s, begin + 2 * n, begin + 3 * n, False, first, count, H, P, radius, seam, sums, line)
            column_sums(
                s, begin + 4 * n, begin + 7 * n, False, first, count, H, P, radius, seam, sums + 2 * kinds, line
            )
            column_sums(
                s, begin + 5 * n, begin + 5 * n, False, first, count, H, P, radius, seam, sums + 4 * kinds, line
            )
            for i in range(count):
                y = first + i
                _beside(s, sums, fours, i, 5, line, length)
                row = splat(get(share, P + y))
                for p in range(0, P, LANES):
                    a = sums + i * line
                    squares = window_sum(s, a, fours, line, p + inset, length)
                    products = window_sum(s, a + kinds, fours + line, line, p + inset, length)
                    of_guide = window_sum(s, a + 2 * kinds, fours + 2 * line, line, p + inset, length)
                    of_x = window_sum(s, a + 3 * kinds, fours + 3 * line, line, p + inset, length)
                    slope = window_sum(s, a + 4 * kinds, fours + 4 * line, line, p + inset, length) * (
                        load(share, p) * row
                    )
                    place = begin + y * P + p
                    own, other, outer = load(s, place), load(s, place + n), load(s, place + 6 * n)
                    found = fma(outer, slope, fma(two * own, squares, fma(other, products, of_guide)))
                    store(s, spare + p, found)
                    store(s, place + n, fma(own, products, of_x))
                out_of_line(s, spare, W, d_guide, start + y * W)
                if h == H and w == W:
                    out_of_line(s, begin + n + y * P, W, d_x, start + y * W)
        if h < H or w < W:
            shrunk(s, begin + n, W, P, above, between, h, w, begin + 2 * n, d_x, plane * h * w)
