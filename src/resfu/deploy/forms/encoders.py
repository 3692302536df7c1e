"""Boxes of the encoded image in NAF and AnyUp, computed with the statistics of the norms that are already known."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.deploy.forms.base import Rows, factor_and_summand, mean_and_scale, normalised
from resfu.ops.pooling import pooling_matrix
from resfu.ops.precision import at_least_fp32
from resfu.ops.reassembly.workspace import Workspace
from resfu.upsamplers.bands import embed, layer, on_cpu_without_graph
from resfu.upsamplers.plain import all_plain

Box = tuple[Rows, Rows]  # rows and columns, (first, one past the last) each


def reach_of(stack: nn.Sequential) -> int:
    """The number of pixels on each side of a pixel on which a stack's result depends."""
    return sum(m.kernel_size[0] // 2 for m in stack.modules() if isinstance(m, nn.Conv2d))


def encoded(stack: nn.Sequential, x: Tensor, box: Box, size: tuple[int, int], totals: Sequence[Tensor]) -> Tensor:
    """Apply a stack of convolutions up to the first norm whose statistics are not known yet, or to its end.

    Args:
        stack: a convolution, followed by blocks of `image_encoder.NormalizedBlock`.
        x: [B, c, rows, columns], the box of the image with the pixels around it on which the stack depends, as far as
            they lie inside the image.
        box: rows and columns of the image that are wanted.
        size: (H, W) of the image.
        totals: moments over the whole image of the maps before each norm.

    Returns:
        [B, D, rows, columns] of the box.
    """
    have = around(box, reach_of(stack), size)
    if on_cpu_without_graph(x) and all_plain(stack):
        tiles = [_compiled(stack, x[b], size, [total[:, b : b + 1] for total in totals]) for b in range(len(x))]
        return _cut((torch.stack(tiles) if len(x) > 1 else tiles[0][None]).movedim(3, 1), have, box)
    parts: list[Any] = list(stack)
    stem, *blocks = parts
    known = list(totals)
    x, have = _convolved(stem, x, have, size)
    for block in blocks:
        way, began = x, have
        for norm, convolution in ((block.norm1, block.conv1), (block.norm2, block.conv2)):
            if not known:
                return _cut(x, have, box)
            count = size[0] * size[1] * norm.num_channels // norm.num_groups
            x = normalised(x, norm, *mean_and_scale(known.pop(0), count, norm.eps))
            x = F.silu(x, inplace=not torch.is_grad_enabled())
            x, have = _convolved(convolution, x, have, size)
        if block.residual:
            x = x + _cut(way, began, have)
    return _cut(x, have, box)


def _compiled(stack: nn.Sequential, image: Tensor, size: tuple[int, int], totals: Sequence[Tensor]) -> Tensor:
    """`encoded` for one image by the kernels for whole images: [rows, columns, D], wrong near the tile's inner edges.

    The kernels mirror the edges of a tile like those of an image, so with each layer the result is wrong one pixel
    further inwards. These pixels lie outside the box and are cut off later.
    """
    parts: list[Any] = list(stack)
    stem, *blocks = parts
    known, space = list(totals), Workspace(image)
    x = image.new_empty(*image.shape[1:], stem.out_channels)
    embed(stem, image, x, space)
    for block in blocks:
        way = x
        for norm, convolution in ((block.norm1, block.conv1), (block.norm2, block.conv2)):
            if not known:
                return x
            count = size[0] * size[1] * norm.num_channels // norm.num_groups
            pair = factor_and_summand(norm, *mean_and_scale(known.pop(0), count, norm.eps))
            added = block.residual and convolution is block.conv2
            out = way if added else x.new_empty(*x.shape[:2], convolution.out_channels)
            layer(x, (pair[0][0].to(x.dtype), pair[1][0].to(x.dtype)), convolution, out, space, add=added)
            x = out
    return x


def around(box: Box, reach: int, size: tuple[int, int]) -> Box:
    """A box extended by `reach` pixels on each side, as far as they lie inside the image."""
    (top, bottom), (left, right) = box
    rows, columns = (max(0, top - reach), bottom + reach), (max(0, left - reach), right + reach)
    return (rows[0], min(size[0], rows[1])), (columns[0], min(size[1], columns[1]))


def pooled(x: Tensor, seen: Box, box: Box, image: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A box of `F.adaptive_avg_pool2d` from the image's size to `size`.

    x is the box `seen` of the map of the image's size; the result is the box `box` of the pooled map.
    """
    if image == size:
        return at_least_fp32(x)
    x = at_least_fp32(x)
    down, across = (
        pooling_matrix(P, p, x.dtype).to(x.device)[slice(*to), slice(*of)]
        for P, p, to, of in zip(image, size, box, seen, strict=True)
    )
    return down @ (x @ across.mT)


def seen_by_pool(span: Rows, P: int, p: int) -> Rows:
    """Along an axis pooled from P to p pixels, the pixels over which a span of the p pixels are averages."""
    return span[0] * P // p, -(-span[1] * P // p)


def share_of_pool(x: Tensor, box: Box, image: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The contribution of a box of a map, of the image's size, to the map average-pooled to another size."""
    x = at_least_fp32(x)
    down, across = (
        pooling_matrix(P, p, x.dtype).to(x.device)[:, slice(*of)] for P, p, of in zip(image, size, box, strict=True)
    )
    return down @ (x @ across.mT)


def _convolved(convolution: nn.Conv2d, x: Tensor, have: Box, size: tuple[int, int]) -> tuple[Tensor, Box]:
    """Convolve a box, mirroring the image's border; return the result and the smaller box that it covers."""
    reach, ((top, bottom), (left, right)) = convolution.kernel_size[0] // 2, have
    borders = [left == 0, right == size[1], top == 0, bottom == size[0]]
    if reach and any(borders):
        x = F.pad(x, [reach * border for border in borders], mode="reflect")
    x = F.conv2d(x, convolution.weight, convolution.bias)
    lost = [reach * (not border) for border in borders]
    return x, ((top + lost[2], bottom - lost[3]), (left + lost[0], right - lost[1]))


def _cut(x: Tensor, have: Box, box: Box) -> Tensor:
    rows, columns = (slice(b[0] - h[0], b[1] - h[0]) for h, b in zip(have, box, strict=True))
    return x[:, :, rows, columns]
