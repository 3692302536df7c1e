"""Upsampled features at points of an image, without computing the map of all pixels."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.attention.axis import share, shifted
from resfu.ops.attention.points import attend_at
from resfu.ops.grid import central_cell, lr_position, neighbour_in_image, window
from resfu.ops.nearest import repeated
from resfu.ops.reassembly.softmax import softmax_change
from resfu.upsamplers.anyup import AnyUp
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.fixed import Bilinear, Nearest
from resfu.upsamplers.naf import NAF
from resfu.upsamplers.resfu import ReSFU
from resfu.upsamplers.resfu_image import ReSFUImage
from resfu.upsamplers.starts import BILINEAR, PUBLISHED


def values_at_points(up: Upsampler, features: Tensor, image: Tensor, size: tuple[int, int], points: Tensor) -> Tensor:
    """Sample the upsampled map at points, bilinearly between pixel centres; points beyond them are clamped.

    Args:
        up: the upsampler.
        features: [1, C, h, w].
        image: [1, 3, Hy, Wy], normalised for the upsampler.
        size: (H, W) of the map.
        points: [n, 2], (x, y) in pixels of the map: (0, 0) is the centre of the first pixel.

    Returns:
        [n, C].
    """
    (H, W), points = size, points.to(features.device, torch.float64)
    x, y = points[:, 0].clamp(0, W - 1), points[:, 1].clamp(0, H - 1)
    left, top = x.floor().long(), y.floor().long()
    corners = torch.tensor([0, 0, 1, 1], device=x.device), torch.tensor([0, 1, 0, 1], device=x.device)
    rows, columns = (top[:, None] + corners[0]).clamp(max=H - 1), (left[:, None] + corners[1]).clamp(max=W - 1)
    values = _values(up, features, image, size, rows.flatten(), columns.flatten())  # [C, 4 n]
    down, across = (y - top)[:, None], (x - left)[:, None]
    share_of = torch.where(corners[0] == 1, down, 1 - down) * torch.where(corners[1] == 1, across, 1 - across)
    return (values.unflatten(1, (-1, 4)) * share_of.to(values.dtype)).sum(2).mT.contiguous()


def _values(up: Upsampler, x: Tensor, image: Tensor, size: tuple[int, int], rows: Tensor, columns: Tensor) -> Tensor:
    """The map's values at the given pixels, [C, n]; methods without a rule for single pixels compute the whole map."""
    (h, w), (H, W) = x.shape[-2:], size
    cells = central_cell(H, h, x.device)[rows], central_cell(W, w, x.device)[columns]
    if isinstance(up, NAF):
        query = up.query(up.reduced(image, size), size)
        key = F.adaptive_avg_pool2d(query, (h, w))[0]
        q = query[0, :, rows, columns] / math.sqrt(query.shape[1] // up.heads)
        axes = shifted(H, h, up.kernel_size), shifted(W, w, up.kernel_size)
        return attend_at(q, key, x[0], up.heads, axes, cells, (rows, columns))
    if isinstance(up, AnyUp):
        query, key = up.query_and_key_of(x, image, size)
        q = query[0, :, rows, columns] / math.sqrt(query.shape[1] // up.heads)
        axes = share(H, h, up.window_ratio), share(W, w, up.window_ratio)
        return attend_at(q, key[0], x[0], up.heads, axes, cells, (rows, columns), mean=True)
    if isinstance(up, ReSFUImage) and up.start in (PUBLISHED, BILINEAR):
        guide = up.guide(F.interpolate(image, size=size, mode="bilinear") if image.shape[-2:] != size else image)
        resfu = cast(ReSFU, up.resfu)
        return _fine(resfu.scores(x, guide)[0, :, rows, columns], x[0], size, rows, columns, up.start)
    if isinstance(up, Bilinear):
        return _fine(x.new_zeros(1, len(rows)), x[0], size, rows, columns, PUBLISHED)
    if isinstance(up, Nearest):
        cell = torch.arange(h, device=x.device, dtype=torch.float64), torch.arange(w, device=x.device).double()
        i, j = (repeated(c.view(1, 1, -1, 1), (P, 1)).flatten().long() for c, P in zip(cell, size, strict=True))
        return x[0][:, i[rows], j[columns]]
    return up(x, image, size)[0, :, rows, columns]


def _fine(scores: Tensor, x: Tensor, size: tuple[int, int], rows: Tensor, columns: Tensor, start: str) -> Tensor:
    """ReSFU's sum over "fine" neighbours at n pixels: the softmax of scores [K K, n] weighs x [C, h, w]."""
    K, (h, w) = math.isqrt(len(scores)), x.shape[-2:]
    offsets = torch.tensor(window(K), device=x.device)[:, None]
    seen, places = [], []
    for P, p, pixel in zip(size, (h, w), (rows, columns), strict=True):
        seen.append(neighbour_in_image(P, p, K, x.device)[:, pixel])
        places.append((lr_position(P, p, x.device)[pixel] + offsets).clamp(0, p - 1))  # [K, n]
    inside = (seen[0][:, None] & seen[1][None]).flatten(0, 1)

    def published(values: Tensor) -> Tensor:
        return values.double().masked_fill(~inside, float("-inf")).softmax(-2)

    weights = published(scores)
    if start == BILINEAR:
        weights = softmax_change(scores[None], published)[0]
        weights[K * K // 2] += 1
    weights = weights.unflatten(0, (K, K))
    out = x.new_zeros(len(x), len(rows), dtype=torch.float64)
    for iy in range(K):
        for ix in range(K):
            y, z = places[0][iy], places[1][ix]
            top, left = y.floor().long(), z.floor().long()
            for dy, wy in ((0, 1 - (y - top)), (1, y - top)):
                for dx, wx in ((0, 1 - (z - left)), (1, z - left)):
                    value = x[:, (top + dy).clamp(max=h - 1), (left + dx).clamp(max=w - 1)].double()
                    out += value * (weights[iy, ix] * wy * wx)
    return out.to(x.dtype)
