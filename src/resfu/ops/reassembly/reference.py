"""Reassembly, written as its equation: slow, for any device and dtype.

It is the specification, and the tests compare the fast backends with it. So it shares no code with them.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def reassemble(
    features: Float[Tensor, "B C h w"],
    weights: Float[Tensor, "B GKK H W"],
    neighbours: str,
    padding: str,
    groups: int,
) -> Float[Tensor, "B C H W"]:
    """out[b, c, p, q] = sum over n of weights[b, n, p, q] * value_n[b, c, p, q], n = iy * K + ix."""
    H, W = weights.shape[-2:]
    K = round((weights.shape[1] // groups) ** 0.5)
    per_channel = weights.unflatten(1, (groups, K * K)).repeat_interleave(features.shape[1] // groups, dim=1)
    total = torch.zeros_like(features[..., :1, :1]) * weights[:, :1]
    for n, (oy, ox) in enumerate((oy, ox) for oy in _offsets(K) for ox in _offsets(K)):
        total = total + per_channel[:, :, n] * neighbour(features, (H, W), oy, ox, neighbours, padding, K)
    return total


def correlate(
    query: Float[Tensor, "B D H W"], key: Float[Tensor, "B D h w"], K: int, neighbours: str, padding: str
) -> Float[Tensor, "B KK H W"]:
    """score[b, n, p, q] = sum over c of query[b, c, p, q] * value_n[b, c, p, q], n = iy * K + ix."""
    H, W = query.shape[-2:]
    offsets = [(oy, ox) for oy in _offsets(K) for ox in _offsets(K)]
    return torch.stack([(query * neighbour(key, (H, W), *o, neighbours, padding, K)).sum(1) for o in offsets], 1)


def neighbour(
    x: Float[Tensor, "B C h w"], size: tuple[int, int], oy: int, ox: int, neighbours: str, padding: str, K: int
) -> Float[Tensor, "B C H W"]:
    """The value [B, C, H, W] of each HR pixel's neighbour at the offset (oy, ox) in LR pixels ("dense": HR pixels)."""
    for dim, P, offset in ((-2, size[0], oy), (-1, size[1], ox)):
        p, pixel = x.shape[dim], torch.arange(P, device=x.device)
        if neighbours == "fine":  # bilinearly at the pixel's own position, (p + 1/2) h / H - 1/2
            position = (pixel.double() + 0.5) * p / P - 0.5
            below = position.floor()
            fraction = (position - below).to(x.dtype)
            first = below.long() + offset
            low, high = _pixels(x, first, dim, padding, K), _pixels(x, first + 1, dim, padding, K)
            x = torch.lerp(low, high, fraction[:, None] if dim == -2 else fraction)
        elif neighbours == "central":  # the LR pixel that contains the HR pixel's centre
            x = _pixels(x, (2 * pixel + 1) * p // (2 * P) + offset, dim, padding, K)
        else:  # the LR pixel that contains the HR pixel
            x = _pixels(x, pixel * p // P + offset, dim, padding, K)
    return x


def _pixels(x: Tensor, index: Int[Tensor, "P"], dim: int, padding: str, K: int) -> Tensor:
    """The pixels at the given indices of an axis, which may lie beyond its ends."""
    last = x.shape[dim] - 1
    if padding == "shift":  # the shifted window contains the pixel K further inside instead
        period = min(K, last + 1)
        index = torch.where(index < 0, index % period, index)
        index = torch.where(index > last, last + 1 - period + (index - last - 1) % period, index)
    if padding == "reflect":  # about the border pixel
        index = last - (last - index.abs()).abs()
    values = x.index_select(dim, index.clamp(0, last))
    if padding == "zero":
        outside = (index < 0) | (index > last)
        values = values.masked_fill(outside[:, None] if dim == -2 else outside, 0)
    return values


def _offsets(K: int) -> list[int]:
    return list(range(-(K // 2), K // 2 + 1))
