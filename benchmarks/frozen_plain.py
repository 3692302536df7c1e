"""NAF and AnyUp as their authors compute them, in plain PyTorch, as yardsticks that share our parameters.

NAF's neighbourhood attention: keys and features are enlarged to the output, and each pixel gathers K x K of them, one
low-resolution pixel apart, from a window that is moved inwards at borders. AnyUp scores every low-resolution pixel for
every pixel and masks afterwards. Both go in parts of the output that fit into memory. Whole ratios.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu import NAF, AnyUp
from resfu.ops.attention.axis import seen_cells
from resfu.upsamplers.rotation import rotate

ROWS = 4  # of the output at once


def naf(up: NAF, x: Tensor, image: Tensor) -> Tensor:
    (h, w), (H, W), K = x.shape[-2:], image.shape[-2:], up.kernel_size
    query = torch.cat([up.pixel_encoder(image), up.context_encoder(image)], 1)
    query = rotate(query, up.rope_heads, *up.angles(query.shape[1], (H, W), x.device))
    key = F.interpolate(F.adaptive_avg_pool2d(query, (h, w)), size=(H, W), mode="nearest-exact")
    values = F.interpolate(x, size=(H, W), mode="nearest-exact")
    rows, columns = _members(H, H // h, K), _members(W, W // w, K)
    out = torch.empty_like(values)
    for top in range(0, H, ROWS):
        part = rows[top : top + ROWS]  # [rows, K]
        near = key[:, :, part][..., columns].unflatten(1, (up.heads, -1))  # [B, G, d, rows, K, W, K]
        q = query[:, :, top : top + ROWS].unflatten(1, (up.heads, -1))
        scores = torch.einsum("bgdrw,bgdrkwl->bgrwkl", q, near) / math.sqrt(q.shape[2])
        weights = scores.flatten(4).softmax(4).view_as(scores)
        near = values[:, :, part][..., columns].unflatten(1, (up.heads, -1))
        out[:, :, top : top + ROWS] = torch.einsum("bgrwkl,bgcrkwl->bgcrw", weights, near).flatten(1, 2)
    return out


def _members(P: int, dilation: int, K: int) -> Tensor:
    """[P, K]: K pixels of those that are whole dilations away, around each pixel, moved inwards."""
    pixel = torch.arange(P)
    first = (pixel // dilation - K // 2).clamp(0, P // dilation - K)
    return (first[:, None] + torch.arange(K)) * dilation + (pixel % dilation)[:, None]


def anyup(up: AnyUp, x: Tensor, image: Tensor) -> Tensor:
    (h, w), (H, W) = x.shape[-2:], image.shape[-2:]
    encoded = up.placed(up.image_encoder(image))
    query = up.projected(up.query_convolution(up.query_encoder(encoded)), "query")  # [B, H, W, D]
    key = up.key(F.adaptive_avg_pool2d(up.key_encoder(encoded), (h, w)), x)
    rows, columns = _seen(H, h, up.window_ratio), _seen(W, w, up.window_ratio)
    key = key.unflatten(1, (up.heads, -1)).flatten(3)  # [B, G, d, h w]
    values, out = x.flatten(2).mT, x.new_empty(*x.shape[:2], H, W)
    for top in range(0, H, ROWS):
        q = query[:, top : top + ROWS].flatten(1, 2).unflatten(2, (up.heads, -1)).transpose(1, 2)
        seen = (rows[top : top + ROWS, None, :, None] & columns[:, None]).flatten(2).flatten(0, 1)
        scores = (q @ key / math.sqrt(q.shape[3])).masked_fill(~seen, float("-inf"))
        part = scores.softmax(3).mean(1) @ values  # [B, rows W, C]
        out[:, :, top : top + ROWS] = part.mT.unflatten(2, (-1, W))
    return out


def _seen(P: int, p: int, ratio: float) -> Tensor:
    first, last = seen_cells(P, p, ratio)[..., None]
    place = torch.arange(p)
    return (place >= first) & (place < last)
