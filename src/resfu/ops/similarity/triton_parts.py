"""What the passes of `triton.py` read besides the maps: weights in their order, a convolved key, the hidden channels'
GroupNorm."""
# To a type checker, kernels are Python that gets integers for `tl.constexpr`:
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from resfu.ops.layers.triton import normalised
from resfu.ops.similarity.compressor import Compressor

_TILES = 128  # whose sums a program adds up at once


@triton.jit
def paired_kernel(weight, out, D, M, TAPS: tl.constexpr, T: tl.constexpr, N: tl.constexpr):
    """The weights [G, M, D, K K] as [G, K K + 1, D, N]: after those of the taps the query's, minus their sum."""
    g, c = tl.program_id(0) // D, tl.program_id(0) % D
    n, t = tl.arange(0, N).to(tl.int64), tl.arange(0, T)
    source = weight + (((g * M + n) * D + c) * TAPS)[:, None] + t[None, :]
    part = tl.load(source, (n < M)[:, None] & (t < TAPS)[None, :], 0).to(out.dtype.element_ty)
    out += (g * (TAPS + 1) * D + c) * N
    tl.store(out + (t * D * N)[None, :] + n[:, None], part, (t < TAPS)[None, :])
    tl.store(out + TAPS * D * N + n, tl.sum(-part.to(tl.float32), 1).to(part.dtype))


@triton.jit
def convolved_key_kernel(
    key, affine, paired, out,
    h, w_low, area, tiles, kb, kc, kh, kw,
    K: tl.constexpr, D: tl.constexpr, M: tl.constexpr, GROUPS: tl.constexpr, N: tl.constexpr,
    PIXELS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr, NORMALISED: tl.constexpr,
):  # fmt: skip
    """The K x K convolution of the LR key, which goes on beyond its border, [B, G, h + 2, w + 2, M]. D is a group's."""
    place = tl.program_id(0).to(tl.int64)
    b, g = place // tiles // GROUPS, place // tiles % GROUPS
    pixel = place % tiles * PIXELS + tl.arange(0, PIXELS)
    inside, n = pixel < area, tl.arange(0, N)
    y, x = pixel // (w_low + 2) - 1 - K // 2, pixel % (w_low + 2) - 1 - K // 2
    v = tl.zeros((PIXELS, N), tl.float32)
    for first in range(0, K * K * D, BLOCK):
        i = (first + tl.arange(0, BLOCK)).to(tl.int64)
        tap, c = i // D, g * D + i % D
        row = tl.minimum(tl.maximum(y[:, None] + (tap // K)[None, :], 0), h - 1)
        column = tl.minimum(tl.maximum(x[:, None] + (tap % K)[None, :], 0), w_low - 1)
        source = key + b * kb + row * kh + column * kw + (c * kc)[None, :]
        value = tl.load(source, inside[:, None] & (tap < K * K)[None, :], 0)
        if NORMALISED:
            factor = affine + b * 2 * GROUPS * D + c
            value = normalised(value, factor, tap < K * K, GROUPS * D, key.dtype.element_ty)
        weights = paired + (g * (K * K + 1) * D + i) * N
        part = tl.load(weights[:, None] + n[None, :], (tap < K * K)[:, None], 0)
        v = tl.dot(value, part, v, input_precision=PRECISION)
    target = out + (((b * GROUPS + g) * area + pixel) * M)[:, None] + n[None, :]
    tl.store(target, v.to(out.dtype.element_ty), inside[:, None] & (n < M)[None, :])


@triton.jit
def hidden_affine_kernel(
    sums, weight, bias, out,
    tiles, count, M, width,
    EPS: tl.constexpr, TILES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """GroupNorm as a factor and a summand of the channels of an image's group, from the tiles' sums, in fp64."""
    place = tl.program_id(0).to(tl.int64)
    b, c = place // (M // width), tl.arange(0, CHANNELS)
    m, tile = place % (M // width) * width + c, tl.arange(0, TILES)
    total = tl.zeros((TILES, CHANNELS), tl.float64)
    square = total
    for first in range(0, tiles, TILES):
        known = (first + tile < tiles)[:, None] & (c < width)[None, :]
        source = sums + ((b * tiles + first + tile) * 2 * M)[:, None] + m[None, :]
        total += tl.load(source, known, 0).to(tl.float64)
        square += tl.load(source + M, known, 0).to(tl.float64)
    mean = tl.sum(total) / count
    variance = tl.sum(square) / count - mean * mean
    variance = tl.where(variance < 0, 0, variance)  # keeps NaN
    factor = tl.load(weight + m, c < width, 0).to(tl.float64) / tl.sqrt(variance + EPS)
    summand = tl.load(bias + m, c < width, 0).to(tl.float64) - mean * factor
    tl.store(out + b * 2 * M + m, factor.to(tl.float32), c < width)
    tl.store(out + b * 2 * M + M + m, summand.to(tl.float32), c < width)


def paired_weights(weight: Tensor, groups: int, N: int, dtype: torch.dtype) -> Tensor:
    """The weights [M, D / G, K, K] in the order of the passes' inner axis, [G, K K + 1, D / G, N], with zeros to N."""
    M, D, K, _ = weight.shape
    out = torch.empty((groups, K * K + 1, D, N), dtype=dtype, device=weight.device)
    paired_kernel[(groups * D,)](
        weight.contiguous(), out, D, M // groups, TAPS=K * K, T=triton.next_power_of_2(K * K), N=N
    )
    return out


def convolved_key(key: Tensor, paired: Tensor, affine: Tensor | None, K: int, width: int, precision: str) -> Tensor:
    """`operators.convolved_key` of an LR key with GroupNorm before it.

    Args:
        key: [B, D, h, w].
        paired: as `paired_weights` gives them.
        affine: GroupNorm of the key, as `group_affine` gives it, or None.
        K: of the K x K taps.
        width: M / G.
        precision: of the product.

    Returns:
        [B, G, M / G, h + 2, w + 2].
    """
    (B, _, h, w), (groups, _, D, N) = key.shape, paired.shape
    area = (h + 2) * (w + 2)
    pixels = max(16, min(64, triton.next_power_of_2(area)))
    tiles = triton.cdiv(area, pixels)
    out = torch.empty((B, groups, h + 2, w + 2, width), dtype=key.dtype, device=key.device)
    convolved_key_kernel[(B * groups * tiles,)](
        key, key if affine is None else affine, paired, out, h, w, area, tiles, *key.stride(),
        K=K, D=D, M=width, GROUPS=groups, N=N, PIXELS=pixels, BLOCK=16, PRECISION=precision,
        NORMALISED=affine is not None, num_warps=4,
    )  # fmt: skip
    return out.movedim(4, 2)


def hidden_affine(sums: Tensor, pixels: int, compressor: Compressor) -> Tensor:
    """The hidden channels' GroupNorm as factors and summands, [B, 2, M] in fp32.

    Args:
        sums: [B, tiles, 2, M], of the values and of their squares.
        pixels: H W.
        compressor: has the GroupNorm's parameters.
    """
    B, tiles, _, M = sums.shape
    width = M // compressor.norm_groups
    out = torch.empty((B, 2, M), dtype=torch.float32, device=sums.device)
    hidden_affine_kernel[(B * compressor.norm_groups,)](
        sums, compressor.norm_weight, compressor.norm_bias, out, tiles, pixels * width, M, width,
        EPS=compressor.eps, TILES=min(_TILES, triton.next_power_of_2(tiles)), CHANNELS=triton.next_power_of_2(width),
    )  # fmt: skip
    return out
