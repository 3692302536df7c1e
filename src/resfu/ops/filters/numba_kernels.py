"""The compiled guided filter with stride 1 and its gradients, channel by channel.

All arrays are flat; sums down the columns run in fp64, so that what is added comes off again exactly enough. A channel's
planes lie in a thread's scratch, each H W long.
"""

from numba import njit, types

from resfu.ops.compiled.memory import get, put

PLANES = 10  # of scratch
LINES = 3  # more lines of scratch, of W + 2 radius
_FAST = {"contract", "nsz"}


@njit(nogil=True, cache=True, fastmath=_FAST)
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


@njit(nogil=True, cache=True, fastmath=_FAST)
def _add_row(s, a, b, row, W, sign, wide, o):
    """Adds a row of a plane, or of the product of two, to the sums of the columns."""
    if b < 0:
        for p in range(W):
            put(wide, o + p, get(wide, o + p) + sign * types.float64(get(s, a + row * W + p)))
    else:
        for p in range(W):
            value = types.float64(get(s, a + row * W + p)) * types.float64(get(s, b + row * W + p))
            put(wide, o + p, get(wide, o + p) + sign * value)


@njit(nogil=True, cache=True, fastmath=_FAST)
def _box(s, a, b, out, H, W, radius, lines, wide, o, finite, share, i):
    """Sums of a plane, or of the product of two, over windows; with share >= 0 their means. `out` may not be an input."""
    length = W + 2 * radius
    for p in range(W):
        put(wide, o + p, 0.0)
    for p in range(radius):
        put(s, lines + p, types.float32(0.0))
        put(s, lines + radius + W + p, types.float32(0.0))
    for y in range(min(radius, H)):
        _add_row(s, a, b, y, W, 1.0, wide, o)
    for y in range(H):
        if finite:
            if y + radius < H:
                _add_row(s, a, b, y + radius, W, 1.0, wide, o)
            if y - radius > 0:
                _add_row(s, a, b, y - radius - 1, W, -1.0, wide, o)
        else:  # what is not finite does not come off again
            for p in range(W):
                put(wide, o + p, 0.0)
            for row in range(max(0, y - radius), min(H, y + radius + 1)):
                _add_row(s, a, b, row, W, 1.0, wide, o)
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


@njit(nogil=True, cache=True, fastmath=_FAST)
def _centred(x, start, n):
    """The mean of a plane, or 0 where it is not finite, and whether it is."""
    total = 0.0
    for i in range(n):
        total += get(x, start + i)
    finite = total - total == 0.0
    return types.float32(total / n) if finite else types.float32(0.0), finite


@njit(nogil=True, cache=True, fastmath=_FAST)
def _upsampled(x, start, h, w, origin, above, between, H, W, s, out, line):
    """A plane [h, w] less its origin, brought to [H, W] bilinearly. above and between: of the columns, then the rows."""
    for y in range(H):
        top, fy = start + get(above, W + y) * w, get(between, W + y)
        step = w if get(above, W + y) + 1 < h else 0
        for j in range(w):
            value = get(x, top + j)
            put(s, line + j, value + fy * (get(x, top + step + j) - value) - origin)
        put(s, line + w, get(s, line + w - 1))
        for p in range(W):
            j = get(above, p)
            value = get(s, line + j)
            put(s, out + y * W + p, value + get(between, p) * (get(s, line + j + 1) - value))


@njit(nogil=True, cache=True, fastmath=_FAST)
def _coefficients(guide, x, plane, h, w, above, between, share, H, W, radius, eps, s, begin, wide, o):
    """Fills the planes g, x, mean g, mean x, 1 / (variance + eps), m; the sixth on are spare. (origin of x, finite)."""
    n = H * W
    g, full, mean_g, mean_x, inverse, m = begin, begin + n, begin + 2 * n, begin + 3 * n, begin + 4 * n, begin + 5 * n
    lines = begin + PLANES * n
    origin, finite = _centred(guide, plane * n, n)
    height, also = _centred(x, plane * h * w, h * w)
    finite = finite and also
    for i in range(n):
        put(s, g + i, get(guide, plane * n + i) - origin)
    if h == H and w == W:
        for i in range(n):
            put(s, full + i, get(x, plane * n + i) - height)
    else:
        _upsampled(x, plane * h * w, h, w, height, above, between, H, W, s, full, lines)
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


@njit(nogil=True, cache=True, fastmath=_FAST)
def guided_filter(first, last, guide, x, h, w, above, between, share, H, W, radius, eps, out, s, begin, wide, o):
    """out, planes [H, W], of guide planes [H, W] and planes x [h, w]. share: 1 / pixels of a window, columns then rows."""
    n = H * W
    for plane in range(first, last):
        height, finite = _coefficients(
            guide, x, plane, h, w, above, between, share, H, W, radius, eps, s, begin, wide, o
        )
        mean_g, mean_x, m, c, lines = begin + 2 * n, begin + 3 * n, begin + 5 * n, begin + 6 * n, begin + PLANES * n
        for i in range(n):
            put(s, c + i, get(s, mean_x + i) - get(s, m + i) * get(s, mean_g + i))
        _box(s, m, -1, mean_g, H, W, radius, lines, wide, o, finite, 0, share)
        _box(s, c, -1, mean_x, H, W, radius, lines, wide, o, finite, 0, share)
        for i in range(n):
            put(out, plane * n + i, get(s, mean_g + i) * get(s, begin + i) + get(s, mean_x + i) + height)


@njit(nogil=True, cache=True, fastmath=_FAST)
def guided_filter_gradients(
    first, last, grad, guide, x, h, w, above, between, share, H, W, radius, eps, d_guide, d_x, s, begin, wide, o
):
    """Gradients in the guide, planes [H, W], and in x, planes [h, w]: the same sums of windows once more."""
    n = H * W
    for plane in range(first, last):
        _, finite = _coefficients(guide, x, plane, h, w, above, between, share, H, W, radius, eps, s, begin, wide, o)
        origin = plane * n
        g, full, mean_g, mean_x, inverse, m = (
            begin, begin + n, begin + 2 * n, begin + 3 * n, begin + 4 * n, begin + 5 * n,
        )  # fmt: skip
        a, b, c, d, lines = begin + 6 * n, begin + 7 * n, begin + 8 * n, begin + 9 * n, begin + PLANES * n
        total, _ = _centred(grad, origin, n)
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
            put(s, a + i, own * get(s, mean_x + i) + get(s, m + i))
        if h == H and w == W:
            for i in range(n):
                put(d_x, origin + i, get(s, a + i))
        else:
            _downsampled(s, a, H, W, above, between, h, w, d_x, plane * h * w, lines)


@njit(nogil=True, cache=True, fastmath=_FAST)
def _downsampled(s, a, H, W, above, between, h, w, out, start, line):
    """The adjoint of `_upsampled`."""
    for i in range(h * w):
        put(out, start + i, types.float32(0.0))
    for y in range(H):
        for j in range(w + 1):
            put(s, line + j, types.float32(0.0))
        for p in range(W):
            j, value = get(above, p), get(s, a + y * W + p)
            beyond = value * get(between, p)
            put(s, line + j, get(s, line + j) + value - beyond)
            put(s, line + j + 1, get(s, line + j + 1) + beyond)
        put(s, line + w - 1, get(s, line + w - 1) + get(s, line + w))
        top, fy = start + get(above, W + y) * w, get(between, W + y)
        step = w if get(above, W + y) + 1 < h else 0
        for j in range(w):
            value = get(s, line + j)
            put(out, top + j, get(out, top + j) + (types.float32(1.0) - fy) * value)
            put(out, top + step + j, get(out, top + step + j) + fy * value)
