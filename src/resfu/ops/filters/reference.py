"""The guided filter, written as its equations: slow, for any device and dtype.

It is the specification, and the tests compare the fast backends with it. So it shares no code with them.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def guided_filter(
    guide: Float[Tensor, "B C H W"], x: Float[Tensor, "B C h w"], radius: int, eps: float, stride: int
) -> Float[Tensor, "B C H W"]:
    """mean(m) guide + mean(n), with m = cov(guide, x) / (var(guide) + eps) and n = mean(x) - m mean(guide).

    With stride 2 the means run over every other pixel with half the radius, and are upsampled bilinearly.
    """
    size = (guide.shape[-2], guide.shape[-1])
    g, x = guide, _resized(x, size)
    if stride == 2:
        g, x, radius = subsampled(g), subsampled(x), radius // 2
    mean_g, mean_x = window_mean(g, radius), window_mean(x, radius)
    covariance = window_mean(g * x, radius) - mean_g * mean_x
    variance = window_mean(g * g, radius) - mean_g * mean_g
    m = covariance / ridged(variance, eps)
    n = mean_x - m * mean_g
    return _resized(window_mean(m, radius), size) * guide + _resized(window_mean(n, radius), size)


def ridged(variance: Float[Tensor, "B C H W"], eps: float) -> Float[Tensor, "B C H W"]:
    """variance + eps; infinite where it would be 0 (without a ridge), so that a constant guide gets slope 0."""
    return variance + eps if eps > 0 else variance.masked_fill(variance <= 0, float("inf"))


def window_mean(x: Float[Tensor, "B C H W"], radius: int) -> Float[Tensor, "B C H W"]:
    """Mean over those pixels of a (2 radius + 1)^2 window that lie inside the image."""
    return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def subsampled(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Pixels 0, 2, 4, ... along both axes: floor(H / 2) x floor(W / 2), but at least 1 x 1."""
    H, W = x.shape[-2:]
    return x[..., : max(H // 2, 1) * 2 : 2, : max(W // 2, 1) * 2 : 2]


def _resized(x: Float[Tensor, "B C h w"], size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
    """Resize bilinearly, with half-pixel centres: pixel p of P lies at (p + 1/2) l / P - 1/2 on l pixels."""
    for dim, P in zip((-2, -1), size, strict=True):
        length = x.shape[dim]
        position = (torch.arange(P, dtype=torch.float64, device=x.device) + 0.5) * length / P - 0.5
        position = position.clamp(0, length - 1)
        below = position.floor().long()
        above = (below + 1).clamp(max=length - 1)
        fraction = (position - below).to(x.dtype)[:, None] if dim == -2 else (position - below).to(x.dtype)
        x = torch.lerp(x.index_select(dim, below), x.index_select(dim, above), fraction)
    return x
