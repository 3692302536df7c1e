"""Similarity scores on the GPU: two passes that keep the hidden channels of a tile of pixels in registers.

GroupNorm needs the whole image before the first score. The first pass writes each tile's sums and sums of squares, the
second makes the hidden channels again and the scores from them: less work than a map of M channels written and read.
No atomics: every program writes its own place, and the tiles' sums are added in a fixed order. Offsets are 64-bit.

v is one matrix product a group. Along its inner axis lie K K taps of D channels, then the query, whose weights are
minus the sum over the taps. A key on the LR map comes convolved: then the query is all of it, and v begins as the
convolved key at the pixel's position.
"""
# To a type checker, kernels are Python that gets integers for `tl.constexpr`:
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportAssignmentType=false, reportCallIssue=false

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from resfu.ops.similarity.compressor import Compressor, normalised_convolution
from resfu.ops.tuned import tuned

_SMALLEST = 16  # side of a matrix product on tensor cores


@triton.jit
def similarity_kernel(
    key, query, paired, bias, reduce, reduce_bias, score, score_bias, out,
    H, W, h, w_low, rows, columns, tiles,
    kb, kg, kc, kh, kw, qb, qc, qh, qw,
    READING: tl.constexpr, K: tl.constexpr, D: tl.constexpr, M: tl.constexpr, GROUPS: tl.constexpr,
    COUNT: tl.constexpr, LENGTH: tl.constexpr, N: tl.constexpr, S: tl.constexpr,
    PIXELS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr, SCORES: tl.constexpr,
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
        v = tl.zeros((PIXELS, N), tl.float32) + tl.load(bias + g * N + n)[None, :]
        if TAPS == 0:
            low, known = key + b * kb + g * kg + (n * kc)[None, :], inside[:, None] & (n < M)[None, :]
            v += sampled(low, known, p, q, H, W, h, w_low, kh, kw, READING == "fine")
        for first in range(0, LENGTH, BLOCK):
            i = (first + tl.arange(0, BLOCK)).to(tl.int64)
            tap, c = i // D, g * D + i % D
            source = query + (b * qb + p * qh + q * qw)[:, None] + (c * qc)[None, :]
            if TAPS > 0:
                y, x = tap // K * rows, tap % K * columns
                neighbour = key + (b * kb + p * kh + q * kw)[:, None] + (c * kc + y * kh + x * kw)[None, :]
                source = tl.where((tap < TAPS)[None, :], neighbour, source)
            value = tl.load(source, inside[:, None] & (tap <= TAPS)[None, :], 0)
            part = tl.load(paired + ((g * LENGTH + i) * N)[:, None] + n[None, :])
            v = tl.dot(value, part, v, input_precision=PRECISION)
        part = tl.load(reduce + ((g * N + n) * N)[:, None] + n[None, :])
        hidden = tl.dot(relu(v).to(dtype), part, input_precision=PRECISION)
        hidden = relu(hidden + tl.load(reduce_bias + g * N + n)[None, :])
        if SCORES:
            part = tl.load(score + (((b * GROUPS + g) * N + n) * S)[:, None] + s[None, :])
            scores = tl.dot(hidden.to(dtype), part, scores, input_precision=PRECISION)
        else:
            hidden = tl.where(inside[:, None], hidden, 0)
            total = out + (place * 2 * GROUPS + g) * N + n
            tl.store(total, tl.sum(hidden, 0))
            tl.store(total + GROUPS * N, tl.sum(hidden * hidden, 0))
    if SCORES:
        scores += tl.load(score_bias + b * S + s)[None, :]
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
) -> Tensor:
    """The scores of a key that has been made ready.

    Args:
        key: "dilated": [B, D, H + .., W + ..], padded by K // 2 LR pixels on every side. "fine" and "coarse":
            [B, G, h + 2, w + 2, M / G], the convolved LR key with a border of one pixel, as `operators.convolved_key`.
        query: [B, D, H, W], fp32, bf16 or fp16. Sums run in fp32.
        weight: [M, D / G, K, K].
        bias: [M].
        compressor: the layers that follow.
        step: (h, w); for "dilated" H and W are multiples.
        reading: how pixels find their neighbours in the key.

    Returns:
        [B, K K, H, W], contiguous.
    """
    (B, channels, H, W), (h, w), (M, D, K, _) = query.shape, step, weight.shape
    groups, count, dtype = channels // D, compressor.score_weight.shape[0], query.dtype
    width = M // groups
    N, S = (max(_SMALLEST, triton.next_power_of_2(size)) for size in (width, count))
    dilated = reading == "dilated"
    block = 32 if (K * K * dilated + 1) * D % 32 == 0 else 16
    choice = tuned("similarity", reading, N, dtype)
    pixels = min(choice["pixels"], _pixels(H * W, 16, dtype)) if choice else _pixels(H * W, N, dtype)
    tiles = triton.cdiv(H * W, pixels)
    by_tap = weight.reshape(groups, width, D, K * K).permute(0, 3, 2, 1)  # [G, K K, D, M / G]
    centre = -by_tap.sum(1, keepdim=True)
    paired = (torch.cat([by_tap, centre], 1) if dilated else centre).flatten(1, 2)
    paired = _filled(paired, triton.cdiv(paired.shape[1], block) * block, N)
    reduce = _filled(compressor.reduce_weight.reshape(groups, width, width).mT, N, N).to(dtype)
    biases = [_filled(each.reshape(groups, width), groups, N).float() for each in (bias, compressor.reduce_bias)]
    key = key.unsqueeze(1) if dilated else key.movedim(4, 2)  # [B, groups or 1, channels, rows, columns]

    def run(score: Tensor, score_bias: Tensor, out: Tensor, scores: bool) -> None:
        similarity_kernel[(B * tiles,)](
            key, query, paired, biases[0], reduce, biases[1], score, score_bias, out,
            H, W, h, w, H // h, W // w, tiles, *key.stride(), *query.stride(),
            READING=reading, K=K, D=D, M=width, GROUPS=groups, COUNT=count, LENGTH=paired.shape[1], N=N, S=S,
            PIXELS=pixels, BLOCK=block, PRECISION="tf32x3" if dtype == torch.float32 else "ieee", SCORES=scores,
            num_warps=choice.get("warps", 8 if N >= 64 else 4),
        )  # fmt: skip

    sums = torch.empty((B, tiles, 2, groups, N), dtype=torch.float32, device=query.device)
    run(reduce, biases[0], sums, False)  # this pass reads neither score nor its bias
    total, square = sums[..., :width].sum(1, dtype=torch.float64).flatten(2).unbind(1)
    score, score_bias = normalised_convolution(total, square, H * W, compressor)
    score = _filled(score.unflatten(2, (groups, width)).permute(0, 2, 3, 1), N, S).to(dtype)  # [B, G, N, S]
    out = torch.empty((B, count, H, W), dtype=dtype, device=query.device)
    run(score, _filled(score_bias, B, S).float(), out, True)
    return out


def _pixels(area: int, N: int, dtype: torch.dtype) -> int:
    """Pixels of a tile: as many as leave registers free, no more than the image has."""
    most = 128 if N <= 32 and dtype != torch.float32 else 64
    return max(_SMALLEST, min(most, triton.next_power_of_2(area)))


def _filled(x: Tensor, rows: int, columns: int) -> Tensor:
    """Contiguous, with zeros to the given size of the last two axes."""
    return F.pad(x, (0, columns - x.shape[-1], 0, rows - x.shape[-2])).contiguous()
