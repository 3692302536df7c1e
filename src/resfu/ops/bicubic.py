"""Bicubic resampling with antialiasing, for torch.compile and for runtimes that lack it."""

import torch
from torch import Tensor

_A = -0.5  # the cubic's only parameter; PyTorch's bicubic without antialiasing uses -0.75


def antialiased_bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`F.interpolate(x, size, mode="bicubic", antialias=True)` of a map [B, C, H, W], pixel centres aligned.

    It is a product with one matrix for each axis (Keys, IEEE TASSP 1981, eq. 15).
    """
    rows, columns = (_matrix(P, p, x) for P, p in zip(size, x.shape[-2:], strict=True))
    return rows @ (x @ columns.mT)


def _matrix(P: int, p: int, like: Tensor) -> Tensor:
    """Weights of the p old pixels in each of the P new ones, [P, p]; for downsampling the cubic is widened by p / P."""
    new, old = (torch.arange(n, device=like.device).to(like.dtype)[:, None] + 0.5 for n in (P, p))
    step = old.new_full((1,), p) / new.new_full((1,), P)
    distance = ((old.mT - new * step) / step.clamp(min=1)).abs()
    near = ((_A + 2) * distance - (_A + 3)) * distance * distance + 1
    far = _A * (((distance - 5) * distance + 8) * distance - 4)
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    return weights / weights.sum(1, keepdim=True)
