"""The Triton kernels of `triton.py`.

As on the CPU, the pixels of a small tile share the low-resolution window they read: a program gathers their weights
into a matrix [pixels, taps], zero where a tap is not a pixel's own, and multiplies it by the window's features [taps,
channels] on the tensor cores. So a feature is loaded once a tile, not once a pixel and tap.

Every output is written once, by one program, in a fixed order: no atomics, so backward is reproducible. Sums run in
fp32, in fp64 for fp64; weights are rounded to the features' type first. Offsets are 64-bit. Where a pixel's window
begins is `grid`'s integer arithmetic, so that kernels and CPU agree on it to the last pixel, at any ratio. It is not
read from a table: that would be a CUDA tensor that outlives the call, which CUDA graphs do not allow.
"""
# To a type checker, kernels are Python that gets integers for `tl.constexpr`:
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

import triton
import triton.language as tl


@triton.jit
def window_sum_kernel(
    x, s, out,
    h, w_low, H, W, row_origin, column_origin, row_tiles, column_tiles, parts, loops, width,
    xb, xc, xh, xw, sb, sn, sh, sw, ob, oc, oh, ow,
    READ: tl.constexpr, M: tl.constexpr, K: tl.constexpr, SOFTMAX: tl.constexpr, MASK: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SPAN_Y: tl.constexpr, SPAN_X: tl.constexpr,
    TAPS: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """out[b, c, p, q] = sum over the M x M window of its weight times x[b, c, row(p) + y, column(q) + x].

    The weights are s [b, g M M, p, q], or with SOFTMAX the softmax of s [b, g K K, p, q], for M = K + 1 spread by the
    pixel's bilinear fractions.
    """
    b, p, q, real, top, left, row, column = _tile(
        h, w_low, H, W, row_origin, column_origin, row_tiles, column_tiles, READ, ROWS, COLUMNS
    )
    part = tl.program_id(1)
    g, first = (part // parts).to(tl.int64), part % parts * loops * CHANNELS
    s += b * sb + g * K * K * sn + p * sh + q * sw
    tap = tl.arange(0, TAPS)
    ty, tx = tap // SPAN_X, tap % SPAN_X
    y, z = ty[None, :] - (row - top)[:, None], tx[None, :] - (column - left)[:, None]
    own = real[:, None] & (tap < SPAN_Y * SPAN_X)[None, :]
    if SOFTMAX:
        weight = _shares(s, sn, p, q, real, own, y, z, h, w_low, H, W, M, K, MASK, SUM)
    else:
        own &= (y >= 0) & (y < M) & (z >= 0) & (z < M)
        weight = tl.load(s[:, None] + (y * M + z) * sn, own, 0)
    weight = weight.to(x.dtype.element_ty)
    in_map = (tap < SPAN_Y * SPAN_X) & (top + ty < h + M // 2 * 2) & (left + tx < w_low + M // 2 * 2)
    x += b * xb + (top + ty)[:, None] * xh + (left + tx)[:, None] * xw
    out += b * ob + p[:, None] * oh + q[:, None] * ow
    for block in range(loops):
        c = first + block * CHANNELS + tl.arange(0, CHANNELS)
        known, channel = c < width, (g * width + c)[None, :]
        value = tl.load(x + channel * xc, in_map[:, None] & known[None, :], 0)
        total = tl.dot(weight, value, input_precision="ieee")
        tl.store(out + channel * oc, total.to(out.dtype.element_ty), real[:, None] & known[None, :])


@triton.jit
def _tile(
    h, w_low, H, W, row_origin, column_origin, row_tiles, column_tiles,
    READ: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The image, the pixels (p, q) of this program's tile, which of them exist, where their shared window begins and
    where their own do."""
    place = tl.program_id(0)
    b, place = (place // (row_tiles * column_tiles)).to(tl.int64), place % (row_tiles * column_tiles)
    p0, q0 = row_origin + place // column_tiles * ROWS, column_origin + place % column_tiles * COLUMNS
    pixel = tl.arange(0, ROWS * COLUMNS)
    p, q = (p0 + pixel // COLUMNS).to(tl.int64), (q0 + pixel % COLUMNS).to(tl.int64)
    real = (p >= 0) & (p < H) & (q >= 0) & (q < W)
    top, left = _start(tl.maximum(p0, 0), H, h, READ), _start(tl.maximum(q0, 0), W, w_low, READ)
    row, column = _start(tl.maximum(p, 0), H, h, READ), _start(tl.maximum(q, 0), W, w_low, READ)
    return b, p, q, real, top, left, row, column


@triton.jit
def _start(p, P, length, READ: tl.constexpr):
    """Where the window of pixel p >= 0 of P begins in the padded map of `length`: `tiles.window_start`, in 64 bits."""
    length = tl.full((), 1, tl.int64) * length
    if READ == 0:
        return p * length // P
    return ((2 * p + 1) * length + (P if READ == 1 else 0)) // (2 * P)


@triton.jit
def _fraction(p, P, length, SUM: tl.constexpr):
    """How far pixel p >= 0 lies between the low-resolution centres around it: the second of `grid.lr_cell`."""
    length = tl.full((), 1, tl.int64) * length
    numerator = (2 * p + 1) * length + P
    return (numerator - numerator // (2 * P) * (2 * P)).to(SUM) / (2 * P)


@triton.jit
def _first(i, P, length, READ: tl.constexpr):
    """The first pixel of P whose window begins at i >= 0 or later, P where none does."""
    i = tl.full((), 1, tl.int64) * i
    if READ == 0:
        p = (i * P + length - 1) // length
    else:
        p = (tl.maximum((2 * i - (1 if READ == 1 else 0)) * P - length, 0) + 2 * length - 1) // (2 * length)
    return tl.minimum(p, P)


@triton.jit
def _shares(
    s, sn, p, q, real, own, y, z, h, w_low, H, W,
    M: tl.constexpr, K: tl.constexpr, MASK: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """[pixels, taps]: the softmax of each pixel's scores at its window's place (y, z), spread where M = K + 1."""
    largest = tl.full(p.shape, float("-inf"), SUM)
    for n in tl.static_range(K * K):
        seen = real & _inside(p, q, n // K, n % K, h, w_low, H, W, K, MASK)
        largest = tl.maximum(largest, tl.load(s + tl.full((), n, tl.int64) * sn, seen, float("-inf")).to(SUM))
    largest = tl.where(real, largest, 0.0)
    norm = tl.zeros(p.shape, SUM)
    for n in tl.static_range(K * K):
        seen = real & _inside(p, q, n // K, n % K, h, w_low, H, W, K, MASK)
        norm += tl.exp(tl.load(s + tl.full((), n, tl.int64) * sn, seen, float("-inf")).to(SUM) - largest)
    norm = tl.where(real, norm, 1.0)
    down = _fraction(tl.maximum(p, 0), H, h, SUM)[:, None]
    right = _fraction(tl.maximum(q, 0), W, w_low, SUM)[:, None]
    weight = tl.zeros(y.shape, SUM)
    for i in tl.static_range(M - K + 1):
        for j in tl.static_range(M - K + 1):
            v, u = y - i, z - j
            seen = own & (v >= 0) & (v < K) & (u >= 0) & (u < K)
            seen &= _inside(p[:, None], q[:, None], v, u, h, w_low, H, W, K, MASK)
            score = tl.load(s[:, None] + (v * K + u) * sn, seen, float("-inf")).to(SUM)
            share = tl.exp(score - largest[:, None]) / norm[:, None]
            if M > K:
                share *= (down if i == 1 else 1.0 - down) * (right if j == 1 else 1.0 - right)
            weight += share
    return weight


@triton.jit
def _inside(p, q, v, u, h, w_low, H, W, K: tl.constexpr, MASK: tl.constexpr):
    """Whether the neighbour (v, u) of the pixels (p, q) lies in the image, in units of 1 / (h H) and 1 / (w W)."""
    if MASK:
        y, x = p * h + (v - K // 2) * H, q * w_low + (u - K // 2) * W
        bottom, right = tl.full((), 1, tl.int64) * (H - 1) * h, tl.full((), 1, tl.int64) * (W - 1) * w_low
        inside = (y >= 0) & (y <= bottom) & (x >= 0) & (x <= right)
    else:
        inside = q >= 0
    return inside


@triton.jit
def to_weights_kernel(
    grad, x, out,
    h, w_low, H, W, row_origin, column_origin, row_tiles, column_tiles, width,
    gb, gc, gh, gw, xb, xc, xh, xw, ob, on, oh, ow,
    READ: tl.constexpr, M: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    SPAN_Y: tl.constexpr, SPAN_X: tl.constexpr, TAPS: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """out[b, (g, n), p, q] = sum over the group's channels of grad[b, c, p, q] x[b, c, row(p) + y, column(q) + x]."""
    b, p, q, real, top, left, row, column = _tile(
        h, w_low, H, W, row_origin, column_origin, row_tiles, column_tiles, READ, ROWS, COLUMNS
    )
    g, tap = tl.program_id(1).to(tl.int64), tl.arange(0, TAPS)
    ty, tx = tap // SPAN_X, tap % SPAN_X
    in_map = (tap < SPAN_Y * SPAN_X) & (top + ty < h + M // 2 * 2) & (left + tx < w_low + M // 2 * 2)
    grad += b * gb + p[:, None] * gh + q[:, None] * gw
    x += b * xb + (top + ty)[None, :] * xh + (left + tx)[None, :] * xw
    total = tl.zeros((ROWS * COLUMNS, TAPS), SUM)
    for first in range(0, width, CHANNELS):
        c = first + tl.arange(0, CHANNELS)
        known, channel = c < width, g * width + c
        a = tl.load(grad + channel[None, :] * gc, real[:, None] & known[None, :], 0)
        value = tl.load(x + channel[:, None] * xc, known[:, None] & in_map[None, :], 0)
        total += tl.dot(a, value.to(a.dtype), input_precision="ieee")
    y, z = ty[None, :] - (row - top)[:, None], tx[None, :] - (column - left)[:, None]
    own = real[:, None] & (tap < SPAN_Y * SPAN_X)[None, :] & (y >= 0) & (y < M) & (z >= 0) & (z < M)
    out += b * ob + (g * M * M + y * M + z) * on + p[:, None] * oh + q[:, None] * ow
    tl.store(out, total.to(out.dtype.element_ty), own)


@triton.jit
def to_features_kernel(
    grad, s, out,
    h, w_low, H, W, h1, w1, row_tiles, column_tiles, parts, width,
    gb, gc, gh, gw, sb, sn, sh, sw, ob, oc, oh, ow,
    READ: tl.constexpr, M: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """out[b, c, i, j] = sum over the pixels whose window holds (i, j) of their weight for it times grad[b, c, p, q].

    A program has ROWS x COLUMNS positions of the padded low-resolution map, and goes over the pixels that see them.
    """
    place, part = tl.program_id(0), tl.program_id(1)
    b, place = (place // (row_tiles * column_tiles)).to(tl.int64), place % (row_tiles * column_tiles)
    g, c = (part // parts).to(tl.int64), part % parts * CHANNELS + tl.arange(0, CHANNELS)
    i0, j0 = place // column_tiles * ROWS, place % column_tiles * COLUMNS
    slot = tl.arange(0, ROWS * COLUMNS)
    i, j = (i0 + slot // COLUMNS).to(tl.int64), (j0 + slot % COLUMNS).to(tl.int64)
    known, real, channel = c < width, (i < h1) & (j < w1), g * width + c
    top, bottom = _first(tl.maximum(i0 - M + 1, 0), H, h, READ), _first(i0 + ROWS, H, h, READ)
    left, right = _first(tl.maximum(j0 - M + 1, 0), W, w_low, READ), _first(j0 + COLUMNS, W, w_low, READ)
    grad += b * gb + channel[None, :] * gc
    s += b * sb + g * M * M * sn
    total = tl.zeros((ROWS * COLUMNS, CHANNELS), SUM)
    for p in range(top, bottom):
        y = (i - _start(p, H, h, READ))[:, None]
        for start in range(left, right, PIXELS):
            q = start + tl.arange(0, PIXELS).to(tl.int64)
            seen = q < right
            z = j[:, None] - _start(q, W, w_low, READ)[None, :]
            own = seen[None, :] & real[:, None] & (y >= 0) & (y < M) & (z >= 0) & (z < M)
            weight = tl.load(s + (y * M + z) * sn + p * sh + q[None, :] * sw, own, 0)
            value = tl.load(grad + p * gh + q[:, None] * gw, seen[:, None] & known[None, :], 0)
            total += tl.dot(weight.to(value.dtype), value, input_precision="ieee")
    out += b * ob + i[:, None] * oh + j[:, None] * ow + channel[None, :] * oc
    tl.store(out, total.to(out.dtype.element_ty), real[:, None] & known[None, :])
