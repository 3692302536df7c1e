"""The compiled guided filter with stride 1 and its gradients, channel by channel.

All arrays are flat, planes H W long. Sums down the columns run in fp64, so that what is added comes off again exactly
enough. The planes of a channel lie in a thread's scratch.
"""

from typing import no_type_check

from numba import types

from resfu.ops.compiled.kernel import kernel
from resfu.ops.compiled.memory import get, put

PLANES = 10  # of scratch
LINES = 3  # more lines of scratch, of W + 2 radius


@no_type_check
@kernel
def _window_sums(s, a, first, second, length, count):
    """Where out[i] = a[i] + ... + a[i + length - 1] is, for i < count: in one of two spare lines. By doubling."""
    run, span, total = a, 1, count + length - 1
    digits = 0
    while length >> (digits + 1):
        digits += 1
    for digit in range(digits - 1, -1, -1):
        n = total - 2 * span + 1
        for i in range(n):
            put(s, first + i, get(s, run + i) + get(s, run + span + i))
        span *= 2
        if length >> digit & 1:
            for i in range(n - 1):
                put(s, first + i, get(s, first + i) + get(s, a + span + i))
            span += 1
        run = first
        first, second = second, first
    return run


@no_type_check
@kernel
def _add_row(s, a, b, row, W, sign, wide, o):
    """Adds a row of a plane, or of the product of two, to the sums of the columns."""
    if b < 0:
        for p in range(W):
            put(wide, o + p, get(wide, o + p) + sign * types.float64(get(s, a + row * W + p)))
    else:
        for p in range(W):
            value = types.float64(get(s, a + row * W + p)) * types.float64(get(s, b + row * W + p))
            put(wide, o + p, get(wide, o + p) + sign * value)


@no_type_check
@kernel
def _move_down(s, a, b, entering, leaving, W, wide, o, line):
    """Both rows at once, and the sums in fp32 into a line."""
    if b < 0:
        for p in range(W):
            total = get(wide, o + p) + types.float64(get(s, a + entering * W + p))
            total -= types.float64(get(s, a + leaving * W + p))
            put(wide, o + p, total)
            put(s, line + p, types.float32(total))
    else:
        for p in range(W):
            first, second = a + entering * W + p, b + entering * W + p
            total = get(wide, o + p) + types.float64(get(s, first)) * types.float64(get(s, second))
            first, second = a + leaving * W + p, b + leaving * W + p
            total -= types.float64(get(s, first)) * types.float64(get(s, second))
            put(wide, o + p, total)
            put(s, line + p, types.float32(total))


@no_type_check
@kernel
def _box(s, a, b, out, H, W, radius, lines, wide, o, finite, share, i):
    """Sums of a plane, or of the product of two, over windows; with share >= 0 their means. `out` is another plane."""
    length = W + 2 * radius
    for p in range(W):
        put(wide, o + p, 0.0)
    for p in range(radius):
        put(s, lines + p, types.float32(0.0))
        put(s, lines + radius + W + p, types.float32(0.0))
    for y in range(min(radius, H)):
        _add_row(s, a, b, y, W, 1.0, wide, o)
    for y in range(H):
        moved = finite and radius < y < H - radius
        if moved:
            _move_down(s, a, b, y + radius, y - radius - 1, W, wide, o, lines + radius)
        elif finite:
            if y + radius < H:
                _add_row(s, a, b, y + radius, W, 1.0, wide, o)
            if y - radius > 0:
                _add_row(s, a, b, y - radius - 1, W, -1.0, wide, o)
        else:  # what is not finite does not come off again
            for p in range(W):
                put(wide, o + p, 0.0)
            for row in range(max(0, y - radius), min(H, y + radius + 1)):
                _add_row(s, a, b, row, W, 1.0, wide, o)
        if not moved:
            for p in range(W):
                put(s, lines + radius + p, types.float32(get(wide, o + p)))
        sums = _window_sums(s, lines, lines + length, lines + 2 * length, 2 * radius + 1, W)
        if share >= 0:
            weight = get(i, share + W + y)
            for p in range(W):
                put(s, out + y * W + p, get(s, sums + p) * get(i, share + p) * weight)
        else:
            for p in range(W):
                put(s, out + y * W + p, get(s, sums + p))


@no_type_check
@kernel
def _centred(x, start, H, W, wide, o):
    """The mean of a plane, or 0 where it is not finite, and whether it is."""
    n, total = H * W, 0.0
    for p in range(W):
        put(wide, o + p, 0.0)
    for y in range(H):  # columns first: a sum that waits for the one before is slow
        for p in range(W):
            put(wide, o + p, get(wide, o + p) + types.float64(get(x, start + y * W + p)))
    for p in range(W):
        total += get(wide, o + p)
    finite = total - total == 0.0
    return types.float32(total / n) if finite else types.float32(0.0), finite


@no_type_check
@kernel
def _coefficients(guide, x, plane, share, H, W, radius, eps, s, begin, wide, o):
    """Fills the planes g, x, mean g, mean x, 1 / (variance + eps), m; the sixth on are spare. (origin of x, finite)."""
    n = H * W
    g, full, mean_g, mean_x, inverse, m = begin, begin + n, begin + 2 * n, begin + 3 * n, begin + 4 * n, begin + 5 * n
    lines = begin + PLANES * n
    origin, finite = _centred(guide, plane * n, H, W, wide, o)
    height, also = _centred(x, plane * n, H, W, wide, o)
    finite = finite and also
    for i in range(n):
        put(s, g + i, get(guide, plane * n + i) - origin)
    for i in range(n):
        put(s, full + i, get(x, plane * n + i) - height)
    _box(s, g, -1, mean_g, H, W, radius, lines, wide, o, finite, 0, share)
    _box(s, full, -1, mean_x, H, W, radius, lines, wide, o, finite, 0, share)
    _box(s, g, g, inverse, H, W, radius, lines, wide, o, finite, 0, share)
    _box(s, g, full, m, H, W, radius, lines, wide, o, finite, 0, share)
    for i in range(n):
        variance = get(s, inverse + i) - get(s, mean_g + i) * get(s, mean_g + i)
        ridged = variance + eps
        value = types.float32(1.0) / ridged
        if eps == 0.0 and variance <= types.float32(0.0):
            value = types.float32(0.0)
        put(s, inverse + i, value)
        put(s, m + i, (get(s, m + i) - get(s, mean_g + i) * get(s, mean_x + i)) * value)
    return height, finite


@no_type_check
@kernel
def guided_filter(first, last, guide, x, share, H, W, radius, eps, out, s, begin, wide, o):
    """out, planes [H, W], of planes guide and x. share: 1 / pixels of a window, of columns and then rows."""
    n = H * W
    for plane in range(first, last):
        height, finite = _coefficients(guide, x, plane, share, H, W, radius, eps, s, begin, wide, o)
        mean_g, mean_x, m, c, lines = begin + 2 * n, begin + 3 * n, begin + 5 * n, begin + 6 * n, begin + PLANES * n
        for i in range(n):
            put(s, c + i, get(s, mean_x + i) - get(s, m + i) * get(s, mean_g + i))
        _box(s, m, -1, mean_g, H, W, radius, lines, wide, o, finite, 0, share)
        _box(s, c, -1, mean_x, H, W, radius, lines, wide, o, finite, 0, share)
        for i in range(n):
            put(out, plane * n + i, get(s, mean_g + i) * get(s, begin + i) + get(s, mean_x + i) + height)


@no_type_check
@kernel
def guided_filter_gradients(first, last, grad, guide, x, share, H, W, radius, eps, d_guide, d_x, s, begin, wide, o):
    """Gradients in the planes guide and x: the same sums of windows once more."""
    n = H * W
    for plane in range(first, last):
        _, finite = _coefficients(guide, x, plane, share, H, W, radius, eps, s, begin, wide, o)
        origin = plane * n
        g, full, mean_g, mean_x, inverse, m = (
            begin, begin + n, begin + 2 * n, begin + 3 * n, begin + 4 * n, begin + 5 * n,
        )  # fmt: skip
        a, b, c, d, lines = begin + 6 * n, begin + 7 * n, begin + 8 * n, begin + 9 * n, begin + PLANES * n
        total, _ = _centred(grad, origin, H, W, wide, o)
        finite = finite and total - total == 0.0
        _box(s, m, -1, a, H, W, radius, lines, wide, o, finite, 0, share)
        for y in range(H):
            weight = get(share, W + y)
            for p in range(W):
                i = y * W + p
                value = get(grad, origin + i)
                put(d_guide, origin + i, value * get(s, a + i))
                value *= get(share, p) * weight
                put(s, c + i, value)
                put(s, d + i, value * get(s, g + i))
        _box(s, d, -1, a, H, W, radius, lines, wide, o, finite, -1, share)  # in m
        _box(s, c, -1, b, H, W, radius, lines, wide, o, finite, -1, share)  # in mean x - m mean g
        for y in range(H):
            weight = get(share, W + y)
            for p in range(W):
                i = y * W + p
                mg, mx, slope, shift = get(s, mean_g + i), get(s, mean_x + i), get(s, m + i), get(s, b + i)
                covariance = (get(s, a + i) - mg * shift) * get(s, inverse + i)
                variance = -covariance * slope
                per_pixel = get(share, p) * weight
                put(s, a + i, variance * per_pixel)
                put(s, b + i, covariance * per_pixel)
                put(s, c + i, (-slope * shift - covariance * mx - 2 * variance * mg) * per_pixel)
                put(s, d + i, (shift - covariance * mg) * per_pixel)
        _box(s, a, -1, mean_g, H, W, radius, lines, wide, o, finite, -1, share)
        _box(s, b, -1, mean_x, H, W, radius, lines, wide, o, finite, -1, share)
        _box(s, c, -1, inverse, H, W, radius, lines, wide, o, finite, -1, share)
        _box(s, d, -1, m, H, W, radius, lines, wide, o, finite, -1, share)
        for i in range(n):
            own, other = get(s, g + i), get(s, full + i)
            added = 2 * own * get(s, mean_g + i) + other * get(s, mean_x + i) + get(s, inverse + i)
            put(d_guide, origin + i, get(d_guide, origin + i) + added)
            put(d_x, origin + i, own * get(s, mean_x + i) + get(s, m + i))
