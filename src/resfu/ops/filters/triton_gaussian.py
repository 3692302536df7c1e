"""The 3 x 3 Gaussian on the GPU, of a map that is read beyond its border afterwards: it comes padded."""
# To a type checker, kernels are Python that gets integers for `tl.constexpr`:
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false

from math import exp

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def gaussian_kernel(
    x, out,
    C, H, W, rows, columns, area, wide, tiles, xb, xc, xh, xw,
    CENTRE: tl.constexpr, BESIDE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Some channels of a tile of pixels of the padded map, [B, H + 2 rows, W + 2 columns, C]."""
    place = tl.program_id(0).to(tl.int64)
    b, pixel = place // tiles, place % tiles * PIXELS + tl.arange(0, PIXELS)
    c = tl.program_id(1).to(tl.int64) * CHANNELS + tl.arange(0, CHANNELS)
    p = tl.minimum(tl.maximum(pixel // wide - rows, 0), H - 1)
    q = tl.minimum(tl.maximum(pixel % wide - columns, 0), W - 1)
    known = (pixel < area)[:, None] & (c < C)[None, :]
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for down in tl.static_range(-1, 2):
        row = tl.minimum(tl.maximum(p + down, 0), H - 1)
        for across in tl.static_range(-1, 2):
            column = tl.minimum(tl.maximum(q + across, 0), W - 1)
            share = (CENTRE if down == 0 else BESIDE) * (CENTRE if across == 0 else BESIDE)
            source = x + (b * xb + row * xh + column * xw)[:, None] + (c * xc)[None, :]
            total += share * tl.load(source, known, 0).to(tl.float32)
    tl.store(out + ((b * area + pixel) * C)[:, None] + c[None, :], total.to(out.dtype.element_ty), known)


def padded_gaussian(x: Tensor, rows: int, columns: int) -> Tensor:
    """`gaussian_filter` of x [B, C, H, W] at sigma 1, its border repeated: [B, C, H + 2 rows, W + 2 columns].

    Args:
        x: fp32, bf16 or fp16. Sums run in fp32.
        rows: above and below.
        columns: left and right.
    """
    B, C, H, W = x.shape
    tall, wide = H + 2 * rows, W + 2 * columns
    channels, pixels = min(triton.next_power_of_2(C), 32), min(triton.next_power_of_2(tall * wide), 64)
    tiles = triton.cdiv(tall * wide, pixels)
    out = torch.empty((B, tall, wide, C), dtype=x.dtype, device=x.device)
    beside = exp(-0.5)
    gaussian_kernel[(B * tiles, triton.cdiv(C, channels))](
        x, out, C, H, W, rows, columns, tall * wide, wide, tiles, *x.stride(),
        CENTRE=1 / (1 + 2 * beside), BESIDE=beside / (1 + 2 * beside), PIXELS=pixels, CHANNELS=channels, num_warps=4,
    )  # fmt: skip
    return out.permute(0, 3, 1, 2)
