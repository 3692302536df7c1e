"""Rows of the image encoders of NAF and AnyUp, given the statistics of their norms so far."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from resfu.deploy.forms.base import Rows, mean_and_scale, normalised
from resfu.ops.precision import at_least_fp32
from resfu.upsamplers.pooling import pooling_matrix


def reach_of(stack: nn.Sequential) -> int:
    """Rows that a pixel sees above and below itself."""
    return sum(m.kernel_size[0] // 2 for m in stack.modules() if isinstance(m, nn.Conv2d))


def encoded(stack: nn.Sequential, x: Tensor, span: Rows, size: tuple[int, int], totals: Sequence[Tensor]) -> Tensor:
    """A stack of convolutions up to the first norm whose statistics are not known yet, or to its end.

    Args:
        stack: a convolution and blocks of twice norm, SiLU and convolution, see `image_encoder.NormalizedBlock`.
        x: [B, c, rows, W], rows of the image and as many around them as the stack sees, of those that the image has.
        span: of the rows of the image that are wanted.
        size: (H, W) of the image.
        totals: moments of the maps before each norm, over the whole image.

    Returns:
        [B, D, rows, W], the wanted ones.
    """
    parts: list[Any] = list(stack)
    stem, *blocks = parts
    H, W = size
    known = list(totals)
    have = (max(0, span[0] - reach_of(stack)), min(H, span[1] + reach_of(stack)))
    x, have = _convolved(stem, x, have, H)
    for block in blocks:
        way, began = x, have
        for norm, convolution in ((block.norm1, block.conv1), (block.norm2, block.conv2)):
            if not known:
                return _cut(x, have, span)
            count = H * W * norm.num_channels // norm.num_groups
            x = F.silu(normalised(x, norm, *mean_and_scale(known.pop(0), count, norm.eps)))
            x, have = _convolved(convolution, x, have, H)
        if block.residual:
            x = x + _cut(way, began, have)
    return _cut(x, have, span)


def pooled(x: Tensor, span: Rows, rows: Rows, image: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Rows of `F.adaptive_avg_pool2d`: from rows `span` of a map of the image's size to `rows` of one of another."""
    if image == size:
        return at_least_fp32(x)
    x = at_least_fp32(x)
    down, across = (pooling_matrix(P, p, x).to(x.device) for P, p in zip(image, size, strict=True))
    return down[slice(*rows), slice(*span)] @ (x @ across.mT)


def seen_by_pool(rows: Rows, P: int, p: int) -> Rows:
    """The rows of P that rows of p are averages of."""
    return rows[0] * P // p, -(-rows[1] * P // p)


def share_of_pool(x: Tensor, span: Rows, image: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """What rows `span` of a map of the image's size add to its average at another size."""
    x = at_least_fp32(x)
    down, across = (pooling_matrix(P, p, x).to(x.device) for P, p in zip(image, size, strict=True))
    return down[:, slice(*span)] @ (x @ across.mT)


def _convolved(convolution: nn.Conv2d, x: Tensor, have: Rows, H: int) -> tuple[Tensor, Rows]:
    """The convolution, which mirrors the image's border, and the rows that it leaves."""
    reach, (top, bottom) = convolution.kernel_size[0] // 2, have
    if reach:
        x = F.pad(x, (reach, reach, reach * (top == 0), reach * (bottom == H)), mode="reflect")
    x = F.conv2d(x, convolution.weight, convolution.bias)
    return x, (top + reach * (top > 0), bottom - reach * (bottom < H))


def _cut(x: Tensor, have: Rows, span: Rows) -> Tensor:
    return x[:, :, span[0] - have[0] : span[1] - have[0]]
