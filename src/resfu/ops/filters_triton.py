"""The guided filter on the GPU: two Triton kernels, each of them means over the square window of every pixel.

A program takes some rows of a block of columns. Sums over the rows of the window run down the columns: one row enters,
one leaves, and every program starts afresh, so that rounding does not pile up. What runs is the difference between the
column that enters the window and the one that left it; summed up along the row, it is the sum over the window. A partial
sum of it is the difference of two windows, never of two long prefixes, so nothing large cancels. Variances are taken
about the mean of the program's first row: a guide far from 0 loses nothing.

Sums run in fp32, in fp64 for fp64. Offsets are 64-bit. Each output is written once, by one program, in a fixed order. A
NaN or an infinity reaches beyond the windows that hold it, but not beyond the programs that read it.
"""
# To a type checker, kernels are Python that gets integers for `tl.constexpr`:
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from resfu.ops.layout import memory_format


@triton.jit
def coefficients_kernel(
    guide, x, m, n,
    C, H, W, h, w, tall, wide, chunks, blocks, parts, span,
    gb, gc, gh, gw, xb, xc, xh, xw, mb, mc, mh, mw,
    EPS: tl.constexpr, RESIZED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """m and n of x ~ m guide + n in each window, [B, C, H, W]. x is of that size, or [B, C, h, w]: then it is sampled."""
    b, c, p, q, edge = _tile(chunks, blocks, parts, span, wide, ROWS, COLUMNS, CHANNELS)
    known, owned = (c < C)[None, :], _owned(q, edge, wide, W)[:, None]
    guide += b * gb + c[None, :] * gc
    x += b * xb + c[None, :] * xc
    m += b * mb + c[None, :] * mc + q[:, None] * mw
    n += b * mb + c[None, :] * mc + q[:, None] * mw
    first = (q + wide)[:, None]
    seen, count = known & (first < W), tl.minimum(W - edge, COLUMNS)
    origin_g = tl.sum(_value(guide, 0.0, p, first, seen, H, W, H, W, gh, gw, False, SUM), 0)[None, :] / count
    origin_x = tl.sum(_value(x, 0.0, p, first, seen, H, W, h, w, xh, xw, RESIZED, SUM), 0)[None, :] / count
    sum_g = tl.zeros((COLUMNS, CHANNELS), SUM)
    sum_x, sum_gx, sum_gg = sum_g, sum_g, sum_g
    for row in range(tl.maximum(p - tall, 0), tl.minimum(p + tall, H)):
        dg, dx, dgx, dgg = _products(
            guide, x, origin_g, origin_x, row, q, known, edge, wide, H, W, h, w, gh, gw, xh, xw, RESIZED, SUM
        )  # fmt: skip
        sum_g, sum_x, sum_gx, sum_gg = sum_g + dg, sum_x + dx, sum_gx + dgx, sum_gg + dgg
    for row in range(p, tl.minimum(p + ROWS, H)):
        new, old = row + tall, row - tall - 1
        dg, dx, dgx, dgg = _products(
            guide, x, origin_g, origin_x, new, q, known & (new < H), edge, wide, H, W, h, w, gh, gw, xh, xw, RESIZED, SUM
        )  # fmt: skip
        sum_g, sum_x, sum_gx, sum_gg = sum_g + dg, sum_x + dx, sum_gx + dgx, sum_gg + dgg
        dg, dx, dgx, dgg = _products(
            guide, x, origin_g, origin_x, old, q, known & (old >= 0) & (row > p), edge, wide, H, W, h, w, gh, gw, xh, xw, RESIZED, SUM
        )  # fmt: skip
        sum_g, sum_x, sum_gx, sum_gg = sum_g - dg, sum_x - dx, sum_gx - dgx, sum_gg - dgg
        share = 1 / (_in_window(q, wide, W)[:, None] * _in_window(row, tall, H)).to(SUM)
        mean_g, mean_x = tl.cumsum(sum_g, 0) * share, tl.cumsum(sum_x, 0) * share
        covariance = tl.cumsum(sum_gx, 0) * share - mean_g * mean_x
        variance = tl.cumsum(sum_gg, 0) * share - mean_g * mean_g
        slope = covariance / (variance + EPS)
        tl.store(m + row * mh, slope, known & owned)
        line = origin_x + mean_x - slope * (origin_g + mean_g)
        tl.store(n + row * mh, line, known & owned)


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
    guide += b * gb + c[None, :] * gc + q[:, None] * gw
    out += b * ob + c[None, :] * oc + q[:, None] * ow
    sum_m = tl.zeros((COLUMNS, CHANNELS), SUM)
    sum_n = sum_m
    for row in range(tl.maximum(p - tall, 0), tl.minimum(p + tall, H)):
        sum_m += _difference(m, row, q, known, edge, wide, W, mh, mw)
        sum_n += _difference(n, row, q, known, edge, wide, W, mh, mw)
    for row in range(p, tl.minimum(p + ROWS, H)):
        new, old = row + tall, row - tall - 1
        adds, drops = known & (new < H), known & (old >= 0) & (row > p)
        sum_m += _difference(m, new, q, adds, edge, wide, W, mh, mw)
        sum_n += _difference(n, new, q, adds, edge, wide, W, mh, mw)
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
    place = tl.program_id(0).to(tl.int64)
    c = place % parts * CHANNELS + tl.arange(0, CHANNELS)
    edge = place // parts % blocks * span
    p = place // parts // blocks % chunks * ROWS
    return place // parts // blocks // chunks, c, p, edge - wide + tl.arange(0, COLUMNS), edge


@triton.jit
def _owned(q, edge, wide, W):
    """The columns whose whole window was read; the first block also has the left end of the row."""
    return (q >= tl.where(edge > 0, edge + wide, 0)) & (q < W)


@triton.jit
def _in_window(p, radius, P):
    """How many pixels of the window around p exist along an axis of P; 1 beyond the map."""
    return tl.maximum(tl.minimum(p + radius, P - 1) - tl.maximum(p - radius, 0) + 1, 1)


@triton.jit
def _difference(x, row, q, seen, edge, wide, W, xh, xw):
    """The column that enters the window of q less the one that left it, in one row."""
    entering, left = (q + wide)[:, None], (q - wide - 1)[:, None]
    x += row * xh
    return tl.load(x + entering * xw, seen & (entering < W), 0) - tl.load(x + left * xw, seen & (left >= edge), 0)


@triton.jit
def _products(
    guide, x, origin_g, origin_x, row, q, seen, edge, wide, H, W, h, w, gh, gw, xh, xw,
    RESIZED: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """The same of guide, x, guide x and guide^2, both counted from their origins and 0 where they are not seen."""
    entering, left = (q + wide)[:, None], (q - wide - 1)[:, None]
    enters, leaves = seen & (entering < W), seen & (left >= edge)
    g = _value(guide, origin_g, row, entering, enters, H, W, H, W, gh, gw, False, SUM)
    y = _value(x, origin_x, row, entering, enters, H, W, h, w, xh, xw, RESIZED, SUM)
    old_g = _value(guide, origin_g, row, left, leaves, H, W, H, W, gh, gw, False, SUM)
    old_y = _value(x, origin_x, row, left, leaves, H, W, h, w, xh, xw, RESIZED, SUM)
    return g - old_g, y - old_y, g * y - old_g * old_y, g * g - old_g * old_g


@triton.jit
def _value(x, origin, row, column, seen, H, W, h, w, xh, xw, RESIZED: tl.constexpr, SUM: tl.constexpr):
    """x - origin, of x [H, W] at some pixels or of x [h, w] bilinearly at their positions; 0 where it is not seen."""
    if RESIZED:
        top, bottom, down = _neighbours(row, H, h, SUM)
        left, right, across = _neighbours(column, W, w, SUM)
        a = tl.load(x + top * xh + left * xw, seen, 0).to(SUM)
        b = tl.load(x + top * xh + right * xw, seen, 0).to(SUM)
        above = a + across * (b - a)
        a = tl.load(x + bottom * xh + left * xw, seen, 0).to(SUM)
        b = tl.load(x + bottom * xh + right * xw, seen, 0).to(SUM)
        value = above + down * (a + across * (b - a) - above)
    else:
        value = tl.load(x + row * xh + column * xw, seen, 0).to(SUM)
    return tl.where(seen, value - origin, 0)


@triton.jit
def _neighbours(p, P, length, SUM: tl.constexpr):
    """The two pixels of a short axis that HR pixel p lies between, and how far it is from the first (`grid.lr_cell`)."""
    numerator = (2 * p + 1) * length + P  # of the position plus 1, over 2 P: not negative
    after = numerator // (2 * P)
    fraction = (numerator - after * 2 * P).to(SUM) / (2 * P)
    return tl.maximum(after - 1, 0), tl.minimum(after, length - 1), fraction


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    """See `filters.guided_filter`. [B, C, H, W] and [B, C, h, w] in, [B, C, H, W] out in the guide's memory format."""
    B, C, H, W = guide.shape
    result = torch.promote_types(guide.dtype, x.dtype)
    out = torch.empty(guide.shape, dtype=result, device=guide.device, memory_format=memory_format(guide))
    if out.numel() == 0:
        return out
    exact = torch.promote_types(result, torch.float32)
    m, n = torch.empty_like(out, dtype=exact), torch.empty_like(out, dtype=exact)
    tall, wide = min(radius, H - 1), min(radius, W - 1)
    rows = max(16, triton.next_power_of_2(2 * tall))
    columns = min(triton.next_power_of_2(W + wide), max(256, triton.next_power_of_2(4 * wide)))
    channels = 4 if C > 1 and out.stride(1) == 1 else 1
    span = columns - 2 * wide
    chunks, blocks, parts = triton.cdiv(H, rows), max(1, triton.cdiv(W - wide, span)), triton.cdiv(C, channels)
    grid, tiles = (B * chunks * blocks * parts,), (tall, wide, chunks, blocks, parts, span)
    sizes = {"ROWS": rows, "COLUMNS": columns, "CHANNELS": channels}
    sizes |= {"SUM": tl.float64 if exact == torch.float64 else tl.float32}
    with torch.cuda.device_of(guide):
        coefficients_kernel[grid](
            guide, x, m, n, C, H, W, *x.shape[-2:], *tiles, *guide.stride(), *x.stride(), *m.stride(),
            EPS=eps, RESIZED=x.shape[-2:] != guide.shape[-2:], **sizes,
        )  # fmt: skip
        line_kernel[grid](
            m, n, guide, out, C, H, W, *tiles, *m.stride(), *guide.stride(), *out.stride(), **sizes,
        )  # fmt: skip
    return out
