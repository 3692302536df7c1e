"""The guided filter on the GPU: two Triton kernels, each of them means over the square window of every pixel.

A program takes some rows of a block of columns. Sums over the rows of the window run down the columns: one row enters,
one leaves, and every program starts afresh, so that rounding does not pile up. What runs is the difference between the
column that enters the window and the one that left it; summed up along the row, that is the sum over the window. Its
partial sums are differences of two windows, never of two long prefixes, so nothing large cancels. Variances are taken
about the mean of the program's first row: a guide far from 0 loses nothing.

Sums run in fp32, in fp64 for fp64. Offsets are 64-bit. Each output is written once, by one program, in a fixed order. A
NaN or an infinity reaches beyond the windows that hold it, but not beyond the programs that read it.
"""
# To a type checker, kernels are Python that gets integers for `tl.constexpr`:
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from resfu.ops.layout import memory_format
from resfu.ops.precision import exact_dtype


@triton.jit
def coefficients_kernel(
    guide, x, m, n,
    C, H, W, h, w_low, tall, wide, chunks, blocks, parts, span,
    gb, gc, gh, gw, xb, xc, xh, xw, mb, mc, mh, mw,
    EPS: tl.constexpr, RESIZED: tl.constexpr, INDEX: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """m and n of x ~ m guide + n in each window, [B, C, H, W]; x is of that size, or [B, C, h, w] and sampled."""
    b, c, p, q, edge = _tile(chunks, blocks, parts, span, wide, ROWS, COLUMNS, CHANNELS)
    known, owned = (c < C)[None, :], _owned(q, edge, wide, W)[:, None]
    guide += b * gb + c[None, :] * gc
    x += b * xb + c[None, :] * xc
    m += b * mb + c[None, :] * mc + q[:, None].to(tl.int64) * mw
    n += b * mb + c[None, :] * mc + q[:, None].to(tl.int64) * mw
    first, _, seen, _ = _ends(q, known, edge, wide, W)
    count = tl.minimum(W - edge, COLUMNS)
    g0 = tl.sum(value_at(guide, 0.0, p, first, seen, H, W, H, W, gh, gw, False, INDEX, SUM), 0)[None, :] / count
    x0 = tl.sum(value_at(x, 0.0, p, first, seen, H, W, h, w_low, xh, xw, RESIZED, INDEX, SUM), 0)[None, :] / count
    sum_g = tl.zeros((COLUMNS, CHANNELS), SUM)
    sum_x, sum_gx, sum_gg = sum_g, sum_g, sum_g
    for new in range(tl.maximum(p - tall, 0), tl.minimum(p + ROWS, H) + tall):
        row, old = new - tall, new - 2 * tall - 1
        dg, dx, dgx, dgg = _products(
            guide, x, g0, x0, new, q, known & (new < H), edge, wide, H, W, h, w_low, gh, gw, xh, xw, RESIZED, INDEX, SUM
        )  # fmt: skip
        sum_g, sum_x, sum_gx, sum_gg = sum_g + dg, sum_x + dx, sum_gx + dgx, sum_gg + dgg
        if row >= p:
            drops = known & (row > p) & (old >= 0)
            dg, dx, dgx, dgg = _products(
                guide, x, g0, x0, old, q, drops, edge, wide, H, W, h, w_low, gh, gw, xh, xw, RESIZED, INDEX, SUM
            )  # fmt: skip
            sum_g, sum_x, sum_gx, sum_gg = sum_g - dg, sum_x - dx, sum_gx - dgx, sum_gg - dgg
            share = 1 / (_in_window(q, wide, W)[:, None] * _in_window(row, tall, H)).to(SUM)
            mean_g, mean_x = tl.cumsum(sum_g, 0) * share, tl.cumsum(sum_x, 0) * share
            covariance = tl.cumsum(sum_gx, 0) * share - mean_g * mean_x
            variance = tl.cumsum(sum_gg, 0) * share - mean_g * mean_g
            ridged = variance + EPS
            slope = covariance / tl.where(ridged <= 0, float("inf"), ridged)  # a flat guide has no slope
            tl.store(m + row * mh, slope, known & owned)
            tl.store(n + row * mh, x0 + mean_x - slope * (g0 + mean_g), known & owned)


@triton.jit
def line_kernel(
    m, n, guide, out,
    C, H, W, tall, wide, chunks, blocks, parts, span,
    mb, mc, mh, mw, gb, gc, gh, gw, ob, oc, oh, ow,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """out = mean(m) guide + mean(n), means over the window of each pixel."""
    b, c, p, q, edge = _tile(chunks, blocks, parts, span, wide, ROWS, COLUMNS, CHANNELS)
    known, owned = (c < C)[None, :], _owned(q, edge, wide, W)[:, None]
    m += b * mb + c[None, :] * mc
    n += b * mb + c[None, :] * mc
    guide += b * gb + c[None, :] * gc + q[:, None].to(tl.int64) * gw
    out += b * ob + c[None, :] * oc + q[:, None].to(tl.int64) * ow
    sum_m = tl.zeros((COLUMNS, CHANNELS), SUM)
    sum_n = sum_m
    for new in range(tl.maximum(p - tall, 0), tl.minimum(p + ROWS, H) + tall):
        row, old = new - tall, new - 2 * tall - 1
        sum_m += _difference(m, new, q, known & (new < H), edge, wide, W, mh, mw)
        sum_n += _difference(n, new, q, known & (new < H), edge, wide, W, mh, mw)
        if row >= p:
            drops = known & (row > p) & (old >= 0)
            sum_m -= _difference(m, old, q, drops, edge, wide, W, mh, mw)
            sum_n -= _difference(n, old, q, drops, edge, wide, W, mh, mw)
            share = 1 / (_in_window(q, wide, W)[:, None] * _in_window(row, tall, H)).to(SUM)
            value = tl.load(guide + row * gh, known & owned, 0).to(SUM)
            value = tl.cumsum(sum_m, 0) * share * value + tl.cumsum(sum_n, 0) * share
            tl.store(out + row * oh, value.to(out.dtype.element_ty), known & owned)


@triton.jit
def _tile(
    chunks, blocks, parts, span, wide, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr
):  # fmt: skip
    """A program's image b, channels c, first row p, columns q, and the first column that it reads."""
    place = tl.program_id(0)
    c = place % parts * CHANNELS + tl.arange(0, CHANNELS)
    edge = place // parts % blocks * span
    p = place // parts // blocks % chunks * ROWS
    b = place // parts // blocks // chunks
    return b.to(tl.int64), c.to(tl.int64), p.to(tl.int64), edge - wide + tl.arange(0, COLUMNS), edge


@triton.jit
def _owned(q, edge, wide, W):
    """The columns whose whole window was read; the first block also has the left end of the row."""
    return (q >= tl.where(edge > 0, edge + wide, 0)) & (q < W)


@triton.jit
def _in_window(p, radius, P):
    """How many pixels of the window around p exist along an axis of P; 1 beyond the map."""
    return tl.maximum(tl.minimum(p + radius, P - 1) - tl.maximum(p - radius, 0) + 1, 1)


@triton.jit
def _ends(q, seen, edge, wide, W):
    """The columns that enter the windows of q, those that left them, and which of both exist and are the program's."""
    entering, left = (q + wide)[:, None], (q - wide - 1)[:, None]
    return entering, left, seen & (entering < W), seen & (left >= edge) & (left < W)


@triton.jit
def _difference(x, row, q, seen, edge, wide, W, xh, xw):
    """One row of x at the columns that enter less those that left."""
    entering, left, enters, leaves = _ends(q, seen, edge, wide, W)
    new = tl.load(x + row * xh + entering.to(tl.int64) * xw, enters, 0)
    return new - tl.load(x + row * xh + left.to(tl.int64) * xw, leaves, 0)


@triton.jit
def _products(
    guide, x, g0, x0, row, q, seen, edge, wide, H, W, h, w, gh, gw, xh, xw,
    RESIZED: tl.constexpr, INDEX: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """The same difference of guide, x, guide x and guide^2, with guide and x counted from their origins."""
    entering, left, enters, leaves = _ends(q, seen, edge, wide, W)
    g = value_at(guide, g0, row, entering, enters, H, W, H, W, gh, gw, False, INDEX, SUM)
    y = value_at(x, x0, row, entering, enters, H, W, h, w, xh, xw, RESIZED, INDEX, SUM)
    old_g = value_at(guide, g0, row, left, leaves, H, W, H, W, gh, gw, False, INDEX, SUM)
    old_y = value_at(x, x0, row, left, leaves, H, W, h, w, xh, xw, RESIZED, INDEX, SUM)
    return g - old_g, y - old_y, g * y - old_g * old_y, g * g - old_g * old_g


@triton.jit
def value_at(
    x, origin, row, column, seen, H, W, h, w, xh, xw, RESIZED: tl.constexpr, INDEX: tl.constexpr, SUM: tl.constexpr
):
    """x - origin, of x [H, W] at some pixels or of x [h, w] bilinearly at their positions; 0 where it is not seen."""
    if RESIZED:
        top, bottom, down = _neighbours(row, H, h, INDEX, SUM)
        left, right, across = _neighbours(column, W, w, INDEX, SUM)
        top, bottom, left, right = top * xh, bottom * xh, left * xw, right * xw
        a, b = tl.load(x + top + left, seen, 0).to(SUM), tl.load(x + top + right, seen, 0).to(SUM)
        above = a + across * (b - a)
        a, b = tl.load(x + bottom + left, seen, 0).to(SUM), tl.load(x + bottom + right, seen, 0).to(SUM)
        value = above + down * (a + across * (b - a) - above)
    else:
        value = tl.load(x + row * xh + column.to(tl.int64) * xw, seen, 0).to(SUM)
    return tl.where(seen, value - origin, 0)


@triton.jit
def _neighbours(p, P, length, INDEX: tl.constexpr, SUM: tl.constexpr):
    """The two pixels of a short axis that HR pixel p lies between, and how far it is from the first (see `grid`)."""
    numerator = (2 * p + 1) * (tl.full((), 1, INDEX) * length) + P  # of the position plus 1, over 2 P: not negative
    after = numerator // (2 * P)
    fraction = (numerator - after * 2 * P).to(SUM) / (2 * P)
    return tl.maximum(after - 1, 0).to(tl.int64), tl.minimum(after, length - 1).to(tl.int64), fraction


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    """The guided filter on CUDA. [B, C, H, W] and [B, C, h, w] in, [B, C, H, W] out in the guide's memory format."""
    B, C, H, W = guide.shape
    result = torch.promote_types(guide.dtype, x.dtype)
    out = torch.empty(guide.shape, dtype=result, device=guide.device, memory_format=memory_format(guide))
    if out.numel() == 0:
        return out
    exact = exact_dtype(out)
    m, n = torch.empty_like(out, dtype=exact), torch.empty_like(out, dtype=exact)
    tall, wide = min(radius, H - 1), min(radius, W - 1)
    rows = max(16, triton.next_power_of_2(2 * tall))
    channels, block = (4, 128) if C > 1 and out.stride(1) == 1 else (1, 256)  # what lies together in memory
    columns = min(triton.next_power_of_2(W + wide), max(block, triton.next_power_of_2(4 * wide)))
    span = columns - 2 * wide
    chunks, blocks, parts = triton.cdiv(H, rows), max(1, triton.cdiv(W - wide, span)), triton.cdiv(C, channels)
    grid, tiles = (B * chunks * blocks * parts,), (tall, wide, chunks, blocks, parts, span)
    # A position is a fraction over 2 H with a numerator below 2 H (h + 1).
    index = tl.int32 if 2 * max(H, W) * (max(x.shape[-2:]) + 1) < 2**31 else tl.int64
    options = {
        "ROWS": rows,
        "COLUMNS": columns,
        "CHANNELS": channels,
        "SUM": tl.float64 if exact == torch.float64 else tl.float32,
        "num_warps": max(1, min(columns * channels // 64, 16)),  # two values a thread: more spill registers
    }
    with torch.cuda.device_of(guide):
        coefficients_kernel[grid](
            guide, x, m, n, C, H, W, *x.shape[-2:], *tiles, *guide.stride(), *x.stride(), *m.stride(),
            EPS=eps, RESIZED=x.shape[-2:] != guide.shape[-2:], INDEX=index, **options,
        )  # fmt: skip
        line_kernel[grid](
            m, n, guide, out, C, H, W, *tiles, *m.stride(), *guide.stride(), *out.stride(), **options
        )  # fmt: skip
    return out
