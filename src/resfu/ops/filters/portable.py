"""Window means and the guided filter in standard operators, for other runtimes.

A window mean is average pooling first vertically and then horizontally, over the pixels inside the image. Each map is
pooled by itself: concatenating several and splitting them again would take these runtimes longer than the pooling.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.filters import operators
from resfu.ops.portable import registered_decomposition
from resfu.ops.precision import exact_dtype


def window_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over those pixels of a (2 radius + 1)^2 window that lie inside the image."""
    length = 2 * radius + 1
    x = F.avg_pool2d(x, (length, 1), stride=1, padding=(radius, 0), count_include_pad=False)
    return F.avg_pool2d(x, (1, length), stride=1, padding=(0, radius), count_include_pad=False)


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float, stride: int) -> Tensor:
    """The portable form of `reference.guided_filter`; it subtracts the mean of both maps first, for precision."""
    size = (guide.shape[-2], guide.shape[-1])
    x = _resized(x, size)
    g, y = (operators.subsampled(guide), operators.subsampled(x)) if stride == 2 else (guide, x)
    origin, height = (t.mean((2, 3), keepdim=True) for t in (g, y))
    m, n = _coefficients(g - origin, y - height, radius // stride, eps)
    if stride == 2:
        m, n = (_resized(t, size) for t in (m, n))
    return m * (guide - origin) + n + height


def _coefficients(guide: Tensor, x: Tensor, radius: int, eps: float) -> tuple[Tensor, Tensor]:
    """m and n of x ~ m guide + n, each averaged over the windows that contain a pixel."""
    mean_guide, mean_x = window_mean(guide, radius), window_mean(x, radius)
    variance = window_mean(guide * guide, radius) - mean_guide * mean_guide
    m = (window_mean(guide * x, radius) - mean_guide * mean_x) / operators.ridged(variance, eps)
    return window_mean(m, radius), window_mean(mean_x - m * mean_guide, radius)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


@registered_decomposition(operators.box_sum)
def box_sum(x: Tensor, radius: int) -> Tensor:
    """The portable form of `operators.box_sum`; pixels beyond the border are 0 and count."""
    length = 2 * radius + 1
    x = F.avg_pool2d(x, (length, 1), stride=1, padding=(radius, 0))
    return F.avg_pool2d(x, (1, length), stride=1, padding=(0, radius)) * length**2


@registered_decomposition(operators.guided_filter)
def _(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    result, dtype = torch.promote_types(guide.dtype, x.dtype), exact_dtype(guide, x)
    return guided_filter(guide.to(dtype), x.to(dtype), radius, eps, 1).to(result)
