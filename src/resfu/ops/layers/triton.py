"""GroupNorm and a 1 x 1 convolution on the GPU, for inference: two launches, and no normalised map.

Once its statistics are known, GroupNorm is a factor and a summand of every channel of an image. The first kernel gives
these. Whoever reads the map applies them in fp32 to the values, and then rounds these as the normalised map would be.
"""
# To a type checker, kernels are Python that gets integers for `tl.constexpr`:
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from resfu.ops.filters.triton import value_at

_SMALLEST = 16  # side of a matrix product on tensor cores
_VALUES = 8192  # that a program of statistics takes at once
_SAMPLED = 2048  # pixels of it that have a position each to keep in registers


@triton.jit
def affine_kernel(
    x, weight, bias, out,
    C, width, area, H, W, h, w_low, xb, xc, xh, xw,
    EPS: tl.constexpr, READING: tl.constexpr, INDEX: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """GroupNorm as a factor and a summand of the channels of one image and group, which one program reads.

    The pixels are those of an H x W map: its own ("own"), or those that read a map [h, w] "fine" or "coarse". The mean
    and the squares about it come from those of blocks, so that a mean far from 0 costs no digits.
    """
    place = tl.program_id(0).to(tl.int64)
    groups = C // width
    b, first = place // groups, place % groups * width
    count, mean, square = 0.0, 0.0, 0.0
    for start in range(0, area, PIXELS):
        pixel = start + tl.arange(0, PIXELS).to(INDEX)
        p, q = pixel // W, pixel % W
        if READING == "coarse":
            p, q = p * h // H, q * w_low // W
        if READING != "fine":
            p, q = p.to(tl.int64), q.to(tl.int64)
        for channel in range(0, width, CHANNELS):
            c = channel + tl.arange(0, CHANNELS)
            seen = (pixel < area)[:, None] & (c < width)[None, :]
            source = x + b * xb + ((first + c) * xc)[None, :]
            value = value_at(
                source, 0.0, p[:, None], q[:, None], seen, H, W, h, w_low, xh, xw,
                READING == "fine", INDEX, tl.float32,
            )  # fmt: skip
            more = (tl.minimum(area - start, PIXELS) * tl.minimum(width - channel, CHANNELS)).to(tl.float32)
            own = tl.sum(value) / more
            centred = tl.where(seen, value - own, 0)
            count += more
            change = own - mean
            mean += change * (more / count)
            square += tl.sum(centred * centred) + change * change * (more * (count - more) / count)
    inverse = 1 / tl.sqrt(square / count + EPS)
    out += b * 2 * C + first
    for channel in range(0, width, CHANNELS):
        c = channel + tl.arange(0, CHANNELS)
        factor = tl.load(weight + first + c, c < width, 0).to(tl.float32) * inverse
        tl.store(out + c, factor, c < width)
        tl.store(out + C + c, tl.load(bias + first + c, c < width, 0).to(tl.float32) - mean * factor, c < width)


@triton.jit
def normalised(value, factor, known, CHANNELS, dtype: tl.constexpr):
    """Values by the factors and summands (CHANNELS behind) of their channels, in the dtype of the product to come."""
    factor, summand = tl.load(factor, known, 0), tl.load(factor + CHANNELS, known, 0)
    return (value.to(tl.float32) * factor[None, :] + summand[None, :]).to(dtype)


@triton.jit
def projection_kernel(
    x, affine, weight, bias, out,
    C, D, area, W, tiles, xb, xc, xh, xw,
    PIXELS: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, BIASED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """weight norm(x) + bias of a tile of pixels, [B, H W, D]."""
    place = tl.program_id(0).to(tl.int64)
    b = place // tiles
    pixel = place % tiles * PIXELS + tl.arange(0, PIXELS)
    inside, n = pixel < area, tl.arange(0, N)
    dtype = out.dtype.element_ty
    x += (b * xb + pixel // W * xh + pixel % W * xw)[:, None]
    total = tl.zeros((PIXELS, N), tl.float32)
    for first in range(0, C, BLOCK):
        c = (first + tl.arange(0, BLOCK)).to(tl.int64)
        value = tl.load(x + (c * xc)[None, :], inside[:, None] & (c < C)[None, :], 0)
        value = normalised(value, affine + b * 2 * C + c, c < C, C, dtype)
        part = tl.load(weight + c[:, None] + (n * C)[None, :], (c < C)[:, None] & (n < D)[None, :], 0)
        total = tl.dot(value, part.to(dtype), total, input_precision=PRECISION)
    if BIASED:
        total += tl.load(bias + n, n < D, 0).to(tl.float32)[None, :]
    target = out + ((b * area + pixel) * D)[:, None] + n[None, :]
    tl.store(target, total.to(dtype), inside[:, None] & (n < D)[None, :])


def group_affine(
    x: Tensor,
    groups: int,
    affine: tuple[Tensor, Tensor],
    eps: float,
    size: tuple[int, int] | None = None,
    neighbours: str = "fine",
) -> Tensor:
    """GroupNorm of x [B, C, h, w] as factors and summands, [B, 2, C] in fp32.

    Args:
        x: fp32, bf16 or fp16.
        groups: GroupNorm's.
        affine: its weight and bias, [C] each.
        eps: its.
        size: (H, W) of the map that x counts as enlarged to, see `upsampled_group_norm`. Default: its own.
        neighbours: how it is enlarged.
    """
    B, C, h, w = x.shape
    H, W = size or (h, w)
    width = C // groups
    channels = min(triton.next_power_of_2(width), 64)
    reading = "own" if (H, W) == (h, w) else neighbours
    pixels = min(triton.next_power_of_2(H * W), _VALUES // channels)
    pixels = pixels if reading == "own" else min(pixels, _SAMPLED)
    # A position is a fraction over 2 H with a numerator below 2 H (h + 1).
    largest = max(H * W + pixels, 2 * H * (h + 1), 2 * W * (w + 1))
    out = torch.empty((B, 2, C), dtype=torch.float32, device=x.device)
    affine_kernel[(B * groups,)](
        x, *affine, out, C, width, H * W, H, W, h, w, *x.stride(),
        EPS=eps, READING=reading, INDEX=tl.int32 if largest < 2**31 else tl.int64, PIXELS=pixels, CHANNELS=channels,
        num_warps=8,
    )  # fmt: skip
    return out


def normalised_product(
    x: Tensor,
    groups: int,
    affine: tuple[Tensor, Tensor],
    eps: float,
    weight: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """weight norm(x) + bias, [B, D, H, W] in channels-last order.

    Args:
        x: [B, C, H, W], fp32, bf16 or fp16, and so are all others.
        groups: GroupNorm's.
        affine: its weight and bias, [C] each.
        eps: its.
        weight: [D, C], D up to 128.
        bias: [D], of the convolution.
        dtype: of the product and the result. Sums run in fp32.
    """
    (B, C, H, W), D = x.shape, weight.shape[0]
    N = max(_SMALLEST, triton.next_power_of_2(D))
    pixels = max(_SMALLEST, min(64 if dtype == torch.float32 or N > 64 else 128, triton.next_power_of_2(H * W)))
    tiles, weight = triton.cdiv(H * W, pixels), weight.contiguous()
    with torch.cuda.device_of(x):  # Triton launches on the current device
        factors = group_affine(x, groups, affine, eps)
        out = torch.empty((B, H, W, D), dtype=dtype, device=x.device)
        projection_kernel[(B * tiles,)](
            x, factors, weight, weight if bias is None else bias, out, C, D, H * W, W, tiles, *x.stride(),
            PIXELS=pixels, N=N, BLOCK=32, BIASED=bias is not None,
            PRECISION="tf32x3" if dtype == torch.float32 else "ieee", num_warps=4,
        )  # fmt: skip
    return out.permute(0, 3, 1, 2)
