"""Reassembly on the GPU: the three operators of `windows.py` as Triton kernels.

Every kernel writes each of its outputs once, by one program, in a fixed order: no atomics, so backward is reproducible.
Sums run in fp32, in fp64 for fp64. Offsets are 64-bit. Where a pixel's window begins is read from two small tables, so
that kernels and CPU agree on it to the last pixel, at any ratio.
"""
# To a type checker, kernels are Python that gets integers for `tl.constexpr`:
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from resfu.ops.grid import lr_cell
from resfu.ops.layout import memory_format
from resfu.ops.reassemble.tiles import weights_format, window_start


@triton.jit
def window_sum_kernel(
    x, w, out, row_start, column_start,
    H, W, blocks, channel_blocks, width,
    xb, xc, xh, xw, wb, wn, wh, ww, ob, oc, oh, ow,
    M: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """out[b, c, p, q] = sum over the window of w[b, g, n, p, q] x[b, c, row(p) + y, column(q) + x]."""
    place, part = tl.program_id(0), tl.program_id(1)
    b, p = (place // blocks // H).to(tl.int64), (place // blocks % H).to(tl.int64)
    g, c = (part // channel_blocks).to(tl.int64), part % channel_blocks * CHANNELS + tl.arange(0, CHANNELS)
    q = (place % blocks * PIXELS + tl.arange(0, PIXELS)).to(tl.int64)
    inside, channel = q < W, g * width + c
    row, column = tl.load(row_start + p), tl.load(column_start + q, inside, 0)
    both = inside[:, None] & (c < width)[None, :]
    x += b * xb + row * xh + column[:, None] * xw + channel[None, :] * xc
    w += b * wb + g * M * M * wn + p * wh + q * ww
    total = tl.zeros((PIXELS, CHANNELS), SUM)
    for dy in tl.static_range(M):
        for dx in tl.static_range(M):
            weight = tl.load(w + (dy * M + dx) * wn, inside, 0).to(SUM)
            value = tl.load(x + dy * xh + dx * xw, both, 0).to(SUM)
            total += weight[:, None] * value
    out += b * ob + p * oh + q[:, None] * ow + channel[None, :] * oc
    tl.store(out, total.to(out.dtype.element_ty), both)


@triton.jit
def softmax_window_sum_kernel(
    x, s, out, row_start, column_start, row_fraction, column_fraction,
    h, w_low, H, W, blocks, channel_blocks, width,
    xb, xc, xh, xw, sb, sn, sh, sw, ob, oc, oh, ow,
    K: tl.constexpr, FINE: tl.constexpr, MASK: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """`window_sum_kernel` whose weights are the softmax of K K scores, for FINE spread over the (K + 1)^2 window."""
    M: tl.constexpr = K + 1 if FINE else K
    place, part = tl.program_id(0), tl.program_id(1)
    b, p = (place // blocks // H).to(tl.int64), (place // blocks % H).to(tl.int64)
    g, c = (part // channel_blocks).to(tl.int64), part % channel_blocks * CHANNELS + tl.arange(0, CHANNELS)
    q = (place % blocks * PIXELS + tl.arange(0, PIXELS)).to(tl.int64)
    real, channel = q < W, g * width + c
    row, column = tl.load(row_start + p), tl.load(column_start + q, real, 0)
    both = real[:, None] & (c < width)[None, :]
    x += b * xb + row * xh + column[:, None] * xw + channel[None, :] * xc
    s += b * sb + g * K * K * sn + p * sh + q * sw
    largest = tl.full((PIXELS,), float("-inf"), SUM)
    for dy in tl.static_range(K):
        for dx in tl.static_range(K):
            seen = real & _inside(p, q, dy, dx, h, w_low, H, W, K, MASK)
            largest = tl.maximum(largest, tl.load(s + (dy * K + dx) * sn, seen, float("-inf")).to(SUM))
    largest = tl.where(real, largest, 0.0)
    norm = tl.zeros((PIXELS,), SUM)
    for dy in tl.static_range(K):
        for dx in tl.static_range(K):
            seen = real & _inside(p, q, dy, dx, h, w_low, H, W, K, MASK)
            norm += tl.exp(tl.load(s + (dy * K + dx) * sn, seen, float("-inf")).to(SUM) - largest)
    norm = tl.where(real, norm, 1.0)
    down, right = tl.load(row_fraction + p).to(SUM), tl.load(column_fraction + q, real, 0).to(SUM)
    total = tl.zeros((PIXELS, CHANNELS), SUM)
    for y in tl.static_range(M):
        for x_ in tl.static_range(M):
            weight = tl.zeros((PIXELS,), SUM)
            for i in tl.static_range(2 if FINE else 1):
                for j in tl.static_range(2 if FINE else 1):
                    if y - i >= 0 and y - i < K and x_ - j >= 0 and x_ - j < K:
                        seen = real & _inside(p, q, y - i, x_ - j, h, w_low, H, W, K, MASK)
                        score = tl.load(s + ((y - i) * K + x_ - j) * sn, seen, float("-inf")).to(SUM)
                        share = tl.exp(score - largest) / norm
                        if FINE:
                            share *= (down if i == 1 else 1.0 - down) * (right if j == 1 else 1.0 - right)
                        weight += share
            value = tl.load(x + y * xh + x_ * xw, both, 0).to(SUM)
            total += weight[:, None] * value
    out += b * ob + p * oh + q[:, None] * ow + channel[None, :] * oc
    tl.store(out, total.to(out.dtype.element_ty), both)


@triton.jit
def _inside(p, q, dy, dx, h, w_low, H, W, K: tl.constexpr, MASK: tl.constexpr):
    """Whether the neighbour (dy, dx) of the pixels (p, q) lies in the image, in units of 1 / (h H) and 1 / (w W)."""
    if MASK:
        y, x = p * h + (dy - K // 2) * H, q * w_low + (dx - K // 2) * W
        return (y >= 0) & (y <= (H - 1) * h) & (x >= 0) & (x <= (W - 1) * w_low)
    return q >= 0


@triton.jit
def to_weights_kernel(
    grad, x, out, row_start, column_start,
    H, W, blocks, width,
    gb, gc, gh, gw, xb, xc, xh, xw, ob, on, oh, ow,
    M: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """out[b, (g, n), p, q] = sum over the group's channels of grad[b, c, p, q] x[b, c, row(p) + y, column(q) + x]."""
    place, tap = tl.program_id(0), tl.program_id(1).to(tl.int64)
    b, p = (place // blocks // H).to(tl.int64), (place // blocks % H).to(tl.int64)
    g, dy, dx = tap // (M * M), tap // M % M, tap % M
    q = (place % blocks * PIXELS + tl.arange(0, PIXELS)).to(tl.int64)
    inside = q < W
    row, column = tl.load(row_start + p) + dy, tl.load(column_start + q, inside, 0) + dx
    total = tl.zeros((PIXELS,), SUM)
    for first in range(0, width, CHANNELS):
        c = first + tl.arange(0, CHANNELS)
        both = inside[:, None] & (c < width)[None, :]
        channel = (g * width + c)[None, :]
        a = tl.load(grad + b * gb + p * gh + q[:, None] * gw + channel * gc, both, 0).to(SUM)
        v = tl.load(x + b * xb + row * xh + column[:, None] * xw + channel * xc, both, 0).to(SUM)
        total += tl.sum(a * v, 1)
    tl.store(out + b * ob + tap * on + p * oh + q * ow, total.to(out.dtype.element_ty), inside)


@triton.jit
def to_features_kernel(
    grad, w, out, row_start, column_start, first_row, first_column,
    h, w_low, channel_blocks, width,
    gb, gc, gh, gw, wb, wn, wh, ww, ob, oc, oh, ow,
    M: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """out[b, c, i, j] = sum over the pixels whose window holds (i, j) of their weight for it times grad[b, c, p, q]."""
    place, part = tl.program_id(0), tl.program_id(1)
    b, i, j = (place // w_low // h).to(tl.int64), (place // w_low % h).to(tl.int64), (place % w_low).to(tl.int64)
    g, c = (part // channel_blocks).to(tl.int64), part % channel_blocks * CHANNELS + tl.arange(0, CHANNELS)
    known, channel = c < width, g * width + c
    top, bottom = tl.load(first_row + tl.maximum(i - M + 1, 0)), tl.load(first_row + i + 1)
    left, right = tl.load(first_column + tl.maximum(j - M + 1, 0)), tl.load(first_column + j + 1)
    grad += b * gb + channel[None, :] * gc
    w += b * wb + g * M * M * wn
    total = tl.zeros((CHANNELS,), SUM)
    for p in range(top, bottom):
        dy = i - tl.load(row_start + p)
        for start in range(left, right, PIXELS):
            q = start + tl.arange(0, PIXELS).to(tl.int64)
            seen = q < right
            dx = j - tl.load(column_start + q, seen, 0)
            weight = tl.load(w + (dy * M + dx) * wn + p * wh + q * ww, seen, 0).to(SUM)
            value = tl.load(grad + p * gh + q[:, None] * gw, seen[:, None] & known[None, :], 0).to(SUM)
            total += tl.sum(weight[:, None] * value, 0)
    tl.store(out + b * ob + i * oh + j * ow + channel * oc, total.to(out.dtype.element_ty), known)


def window_sum(padded: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """See `windows.window_sum`."""
    (B, C), (H, W) = padded.shape[:2], weights.shape[-2:]
    out = torch.empty((B, C, H, W), dtype=padded.dtype, device=padded.device, memory_format=memory_format(padded))
    if out.numel() == 0:
        return out
    width = C // groups
    pixels, channels = _block(out, width)
    blocks, channel_blocks = triton.cdiv(W, pixels), triton.cdiv(width, channels)
    rows, columns = (_starts(P, p, neighbours, padded.device)[0] for P, p in ((H, h), (W, w)))
    window_sum_kernel[(B * H * blocks, groups * channel_blocks)](
        padded, weights, out, rows, columns, H, W, blocks, channel_blocks, width,
        *padded.stride(), *weights.stride(), *out.stride(),
        M=M, PIXELS=pixels, CHANNELS=channels, SUM=_sum_type(padded),
    )  # fmt: skip
    return out


def softmax_window_sum(
    padded: Tensor, scores: Tensor, K: int, h: int, w: int, neighbours: str, groups: int, mask: bool
) -> Tensor:
    """See `windows.softmax_window_sum`."""
    (B, C), (H, W) = padded.shape[:2], scores.shape[-2:]
    out = torch.empty((B, C, H, W), dtype=padded.dtype, device=padded.device, memory_format=memory_format(padded))
    if out.numel() == 0:
        return out
    width = C // groups
    pixels, channels = _block(out, width)
    blocks, channel_blocks = triton.cdiv(W, pixels), triton.cdiv(width, channels)
    rows, columns = (_starts(P, p, neighbours, padded.device)[0] for P, p in ((H, h), (W, w)))
    softmax_window_sum_kernel[(B * H * blocks, groups * channel_blocks)](
        padded, scores, out, rows, columns, _fractions(H, h, padded.device), _fractions(W, w, padded.device),
        h, w, H, W, blocks, channel_blocks, width,
        *padded.stride(), *scores.stride(), *out.stride(),
        K=K, FINE=neighbours == "fine", MASK=mask, PIXELS=pixels, CHANNELS=channels, SUM=_sum_type(padded),
    )  # fmt: skip
    return out


def window_sum_to_weights(grad: Tensor, padded: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """See `windows.window_sum_to_weights`."""
    B, C, H, W = grad.shape
    size = (B, groups * M * M, H, W)
    out = torch.empty(size, dtype=grad.dtype, device=grad.device, memory_format=weights_format(neighbours))
    if out.numel() == 0:
        return out
    width = C // groups
    pixels, channels = _block(grad, width)
    blocks = triton.cdiv(W, pixels)
    rows, columns = (_starts(P, p, neighbours, grad.device)[0] for P, p in ((H, h), (W, w)))
    to_weights_kernel[(B * H * blocks, groups * M * M)](
        grad, padded, out, rows, columns, H, W, blocks, width,
        *grad.stride(), *padded.stride(), *out.stride(),
        M=M, PIXELS=pixels, CHANNELS=channels, SUM=_sum_type(grad),
    )  # fmt: skip
    return out


def window_sum_to_features(
    grad: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int
) -> Tensor:
    """See `windows.window_sum_to_features`."""
    (B, C), (H, W) = grad.shape[:2], weights.shape[-2:]
    size = (h + 2 * (M // 2), w + 2 * (M // 2))
    out = grad.new_empty((B, C, *size))
    if out.numel() == 0:
        return out
    width = C // groups
    channels = min(triton.next_power_of_2(width), 64)
    channel_blocks = triton.cdiv(width, channels)
    (rows, first_row), (columns, first_column) = (
        _starts(P, p, neighbours, grad.device, n) for P, p, n in ((H, h, size[0]), (W, w, size[1]))
    )
    to_features_kernel[(B * size[0] * size[1], groups * channel_blocks)](
        grad, weights, out, rows, columns, first_row, first_column, *size, channel_blocks, width,
        *grad.stride(), *weights.stride(), *out.stride(),
        M=M, PIXELS=16, CHANNELS=channels, SUM=_sum_type(grad),
    )  # fmt: skip
    return out


def _block(out: Tensor, width: int) -> tuple[int, int]:
    """Pixels and channels of a program: long along the axis that lies together in memory."""
    pixels, channels = (16, 128) if out.stride(1) == 1 else (64, 32)
    return pixels, min(channels, triton.next_power_of_2(width))


def _sum_type(x: Tensor):
    return tl.float64 if x.dtype == torch.float64 else tl.float32


@lru_cache(maxsize=64)
def _starts(P: int, p: int, neighbours: str, device: torch.device, size: int = 0) -> tuple[Tensor, Tensor]:
    """Where each pixel's window begins, [P], and the first pixel whose window begins at i or later, [size + 1]."""
    start = window_start(P, p, neighbours)
    first = torch.searchsorted(start, torch.arange(size + 1, device="cpu"))
    return start.to(device), first.to(device)


@lru_cache(maxsize=64)
def _fractions(P: int, p: int, device: torch.device) -> Tensor:
    """How far each pixel lies between the low-resolution centres around it, [P]."""
    return lr_cell(P, p, device)[1]
