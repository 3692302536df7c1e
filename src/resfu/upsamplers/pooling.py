"""Adaptive average pooling as a matrix."""

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.kept import kept


def pooling_matrix(P: int, p: int, like: Tensor) -> Float[Tensor, "p P"]:
    """The matrix that averages pixels floor(i P / p) to ceil((i + 1) P / p), without the last, to pixel i of p."""
    return _matrix(P, p, like.dtype)


@kept(32)
def _matrix(P: int, p: int, dtype: torch.dtype) -> Tensor:
    cell, pixel = torch.arange(p, device="cpu")[:, None], torch.arange(P, device="cpu")
    inside = (pixel >= cell * P // p) & (pixel < -(-(cell + 1) * P // p))
    return (inside / inside.sum(1, keepdim=True).double()).to(dtype)
