"""Adaptive average pooling, also for runtimes that have none at sizes unknown before."""

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.portable import is_portable, whole_ratio


def adaptive_average(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`F.adaptive_avg_pool2d` of a map [B, C, H, W] to [B, C, *size].

    Its portable form is average pooling at whole ratios, and a product with pooling matrices at others.
    """
    if not is_portable():
        return F.adaptive_avg_pool2d(x, size)
    rows, columns = (whole_ratio(P, p) for P, p in zip(x.shape[-2:], size, strict=True))
    if rows is not None and columns is not None:
        return x if rows == columns == 1 else F.avg_pool2d(x, (rows, columns))
    rows, columns = (_pooling_matrix(P, p, x) for P, p in zip(x.shape[-2:], size, strict=True))
    return rows @ (x @ columns.mT)


def _pooling_matrix(P: int, p: int, like: Tensor) -> Tensor:
    """[p, P]: row i has the mean of the pixels floor(i P / p) .. ceil((i + 1) P / p) - 1."""
    cell, pixel = (torch.arange(n, device=like.device) for n in (p, P))
    first = torch.div(cell * P, p, rounding_mode="floor")[:, None]
    last = torch.div((cell + 1) * P + p - 1, p, rounding_mode="floor")[:, None]
    inside = ((pixel >= first) & (pixel < last)).to(like.dtype)
    return inside / (last - first)
