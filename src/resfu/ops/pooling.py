"""Adaptive average pooling as a product of matrices, for runtimes that lack it at dynamic sizes."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.kept import kept
from resfu.ops.portable import is_portable, whole_ratio


def adaptive_average(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`F.adaptive_avg_pool2d` of a map [B, C, H, W] to [B, C, *size].

    In its portable form it is average pooling at whole ratios, and a product with pooling matrices at other ratios.
    """
    if not is_portable():
        return F.adaptive_avg_pool2d(x, size)
    rows, columns = (whole_ratio(P, p) for P, p in zip(x.shape[-2:], size, strict=True))
    if rows is not None and columns is not None:
        return x if rows == columns == 1 else F.avg_pool2d(x, (rows, columns))
    rows, columns = (_matrix(P, p, x.dtype, x.device) for P, p in zip(x.shape[-2:], size, strict=True))
    return rows @ (x @ columns.mT)


@kept(32)
def pooling_matrix(P: int, p: int, dtype: torch.dtype) -> Float[Tensor, "p P"]:
    """Matrix whose row i, of p, averages the pixels floor(i P / p) to ceil((i + 1) P / p) - 1."""
    return _matrix(P, p, torch.float64, torch.device("cpu")).to(dtype)


def _matrix(P: int, p: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    cell, pixel = (torch.arange(n, device=device) for n in (p, P))
    first = torch.div(cell * P, p, rounding_mode="floor")[:, None]
    last = torch.div((cell + 1) * P + p - 1, p, rounding_mode="floor")[:, None]
    inside = ((pixel >= first) & (pixel < last)).to(dtype)
    return inside / (last - first)
