"""Similarity scores on the GPU: two passes that keep the hidden channels of a tile of pixels in registers.

GroupNorm needs the whole image before the first score. The first pass writes each tile's sums and sums of squares, the
second makes the hidden channels again and the scores from them: less work than a map of M channels written and read.
No atomics: every program writes its own place, and the tiles' sums are added in a fixed order. Offsets are 64-bit.

v is one matrix product a group. Along its inner axis lie K K taps of D channels, then the query, whose weights are
minus the sum over the taps. A key on the LR map comes convolved: then the query is all of it, and v begins as the
convolved key at the pixel's position. GroupNorm of key and query is applied to their values where they are read.
"""
# To a type checker, kernels are Python that gets integers for `tl.constexpr`:
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportAssignmentType=false, reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from resfu.ops.filters.triton_gaussian import padded_gaussian
from resfu.ops.layers.triton import group_affine, normalised
from resfu.ops.layout import pad
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.similarity.triton_parts import convolved_key, hidden_affine, paired_weights
from resfu.ops.tuned import tuned

_SMALLEST = 16  # side of a matrix product on tensor cores


@triton.jit
def similarity_kernel(
    key, query, key_affine, query_affine, paired, bias, reduce, reduce_bias, hidden_affine, score, score_bias, out,
    H, W, h, w_low, rows, columns, tiles,
    kb, kg, kc, kh, kw, qb, qc, qh, qw,
    READING: tl.constexpr, K: tl.constexpr, D: tl.constexpr, M: tl.constexpr, GROUPS: tl.constexpr,
    COUNT: tl.constexpr, N: tl.constexpr, S: tl.constexpr, PIXELS: tl.constexpr, BLOCK: tl.constexpr,
    PRECISION: tl.constexpr, NORMALISED: tl.constexpr, SCORES: tl.constexpr,
):  # fmt: skip
    """COUNT scores of a tile of pixels, or their hidden channels' sums and sums of squares. D and M are a group's."""
    place = tl.program_id(0).to(tl.int64)
    b = place // tiles
    pixel = place % tiles * PIXELS + tl.arange(0, PIXELS)
    p, q = pixel // W, pixel % W
    inside = p < H
    n, s = tl.arange(0, N), tl.arange(0, S)
    TAPS: tl.constexpr = K * K if READING == "dilated" else 0
    dtype = query.dtype.element_ty
    scores = tl.zeros((PIXELS, S), tl.float32)
    for g in tl.range(0, GROUPS, num_stages=1):  # pipelined, it would fill the shared memory
        m = g * M + n
        v = tl.zeros((PIXELS, N), tl.float32) + tl.load(bias + m, n < M, 0).to(tl.float32)[None, :]
        if TAPS == 0:
            low, known = key + b * kb + g * kg + (n * kc)[None, :], inside[:, None] & (n < M)[None, :]
            v += sampled(low, known, p, q, H, W, h, w_low, kh, kw, READING == "fine")
        for first in range(0, (TAPS + 1) * D, BLOCK):
            i = (first + tl.arange(0, BLOCK)).to(tl.int64)
            tap, c = i // D, g * D + i % D
            source = query + (b * qb + p * qh + q * qw)[:, None] + (c * qc)[None, :]
            if TAPS > 0:
                y, x = tap // K * rows, tap % K * columns
                neighbour = key + (b * kb + p * kh + q * kw)[:, None] + (c * kc + y * kh + x * kw)[None, :]
                source = tl.where((tap < TAPS)[None, :], neighbour, source)
            value = tl.load(source, inside[:, None] & (tap <= TAPS)[None, :], 0)
            if NORMALISED:
                factor = b * 2 * GROUPS * D + c
                factor = tl.where(tap < TAPS, key_affine + factor, query_affine + factor)
                value = normalised(value, factor, tap <= TAPS, GROUPS * D, dtype)
            weights = paired + ((g * (K * K + 1) + K * K - TAPS) * D + i) * N  # of the taps that there are
            part = tl.load(weights[:, None] + n[None, :], (tap <= TAPS)[:, None], 0)
            v = tl.dot(value, part, v, input_precision=PRECISION)
        part = tl.load(reduce + (m * M)[None, :] + n[:, None], (n < M)[:, None] & (n < M)[None, :], 0)
        hidden = tl.dot(relu(v).to(dtype), part.to(dtype), input_precision=PRECISION)
        hidden = relu(hidden + tl.load(reduce_bias + m, n < M, 0).to(tl.float32)[None, :])
        if SCORES:
            hidden = normalised(hidden, hidden_affine + b * 2 * GROUPS * M + m, n < M, GROUPS * M, dtype)
            part = tl.load(score + m[:, None] + (s * GROUPS * M)[None, :], (n < M)[:, None] & (s < COUNT)[None, :], 0)
            scores = tl.dot(hidden, part.to(dtype), scores, input_precision=PRECISION)
        else:
            hidden = tl.where(inside[:, None], hidden, 0)
            total = out + place * 2 * GROUPS * M + m
            tl.store(total, tl.sum(hidden, 0), n < M)
            tl.store(total + GROUPS * M, tl.sum(hidden * hidden, 0), n < M)
    if SCORES:
        scores += tl.load(score_bias + s, s < COUNT, 0).to(tl.float32)[None, :]
        target = out + ((b * COUNT + s) * H * W)[None, :] + pixel[:, None]
        tl.store(target, scores.to(out.dtype.element_ty), inside[:, None] & (s < COUNT)[None, :])


@triton.jit
def sampled(low, known, p, q, H, W, h, w_low, kh, kw, FINE: tl.constexpr):
    """The LR map, one pixel of border round it, bilinearly at the pixels' positions, or in the pixels they lie in."""
    if FINE:  # as grid.lr_cell, plus the border
        above, below = (2 * p + 1) * h + H, 2 * H
        y = above // below
        fy = ((above - y * below).to(tl.float32) / below)[:, None]
        above, below = (2 * q + 1) * w_low + W, 2 * W
        x = above // below
        fx = ((above - x * below).to(tl.float32) / below)[:, None]
        low += (y * kh + x * kw)[:, None]
        top = tl.load(low, known, 0).to(tl.float32) * (1 - fx) + tl.load(low + kw, known, 0).to(tl.float32) * fx
        low += kh
        bottom = tl.load(low, known, 0).to(tl.float32) * (1 - fx) + tl.load(low + kw, known, 0).to(tl.float32) * fx
        value = top * (1 - fy) + bottom * fy
    else:
        value = tl.load(low + ((p * h // H + 1) * kh + (q * w_low // W + 1) * kw)[:, None], known, 0).to(tl.float32)
    return value


@triton.jit
def relu(x):
    """max(x, 0), with NaN kept."""
    return tl.where(x < 0, 0, x)


def similarity_scores(
    key: Tensor,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    step: tuple[int, int],
    reading: str,
    affine: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The scores of paired central differences.

    Args:
        key: "dilated": [B, D, H + .., W + ..], padded by K // 2 LR pixels on every side. "fine" and "coarse":
            [B, D, h, w], the LR map.
        query: [B, D, H, W], of the key's dtype, fp32, bf16 or fp16, which is that of the products. Sums run in fp32.
        weight: [M, D / G, K, K]; parameters may have another dtype.
        bias: [M].
        compressor: the layers that follow.
        step: (h, w); for "dilated" H and W are multiples.
        reading: how pixels find their neighbours in the key.
        affine: of key and query, as `group_affine` gives them; None for maps that are compared as they are.

    Returns:
        [B, K K, H, W], contiguous.
    """
    (B, channels, H, W), (h, w), (M, D, K, _) = query.shape, step, weight.shape
    groups, count, dtype = channels // D, compressor.score_weight.shape[0], query.dtype
    width = M // groups
    N, S = (max(_SMALLEST, triton.next_power_of_2(size)) for size in (width, count))
    choice = tuned("similarity", reading, N, dtype)
    pixels = min(choice["pixels"], _pixels(H * W, 16, dtype)) if choice else _pixels(H * W, N, dtype)
    tiles = triton.cdiv(H * W, pixels)
    precision = "tf32x3" if dtype == torch.float32 else "ieee"
    paired = paired_weights(weight, groups, N, dtype)
    if reading == "dilated":
        key, block = key.unsqueeze(1), 32 if (K * K + 1) * D % 32 == 0 else 16
    else:
        key = convolved_key(key, paired, None if affine is None else affine[0], K, width, precision)
        block = 32 if D % 32 == 0 else 16
    key_affine, query_affine = affine or (bias, bias)
    reduce, score = compressor.reduce_weight.contiguous(), compressor.score_weight.contiguous()

    def run(hidden: Tensor, out: Tensor, scores: bool) -> Tensor:
        similarity_kernel[(B * tiles,)](
            key, query, key_affine, query_affine, paired, bias, reduce, compressor.reduce_bias,
            hidden, score, compressor.score_bias, out,
            H, W, h, w, H // h, W // w, tiles, *key.stride(), *query.stride(),
            READING=reading, K=K, D=D, M=width, GROUPS=groups, COUNT=count, N=N, S=S, PIXELS=pixels, BLOCK=block,
            PRECISION=precision, NORMALISED=affine is not None, SCORES=scores,
            num_warps=choice.get("warps", 8 if N >= 64 else 4),
        )  # fmt: skip
        return out

    sums = torch.empty((B, tiles, 2, M), dtype=torch.float32, device=query.device)
    hidden = hidden_affine(run(sums, sums, False), H * W, compressor)  # the first pass reads none
    return run(hidden, torch.empty((B, count, H, W), dtype=dtype, device=query.device), True)


def normalised_scores(
    key: Tensor | None,
    query: Tensor,
    norm: tuple[Tensor, Tensor],
    groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    step: tuple[int, int],
    neighbours: str,
) -> Tensor:
    """`normalised.normalised_scores`: maps are read as they are, and the Gaussian of the query comes padded."""
    size, reach = (query.shape[-2], query.shape[-1]), weight.shape[-1] // 2
    rows, columns = (P // p * reach for P, p in zip(size, step, strict=True))
    reading = "dilated" if key is None or key.shape[-2:] == query.shape[-2:] else neighbours
    with torch.cuda.device_of(query):  # Triton launches on the current device
        if key is None:
            read = padded_gaussian(query, rows, columns)
            key = read[..., rows : rows + size[0], columns : columns + size[1]]
        else:
            read = pad(key, rows, columns) if reading == "dilated" else key
        affine = tuple(group_affine(x, groups, norm, eps, size, neighbours) for x in (key, query))
        return similarity_scores(read, query, weight, bias, compressor, step, reading, affine)


def _pixels(area: int, N: int, dtype: torch.dtype) -> int:
    """Pixels of a tile: as many as leave registers free, no more than the image has."""
    most = 128 if N <= 32 and dtype != torch.float32 else 64
    return max(_SMALLEST, min(most, triton.next_power_of_2(area)))
