"""Extend or crop maps at the bottom and right, also to sizes that an exported program computes for each input."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.compiling import in_torch_compile
from resfu.ops.layout import extended
from resfu.ops.portable import is_portable, known


def extended_to(x: Tensor, size: tuple[int, int], zeros: bool = False) -> Tensor:
    """Repeat a map's last row and column, or add zeros, up to a size.

    Exported and compiled programs read every row and column by its index. Otherwise, if the example input already has
    the size, an exported program would leave out the step for all images. A compiled program would not know that sizes
    are multiples of the network's stride; the sizes of all its maps then become long formulas, and compiling takes tens
    of minutes.

    Args:
        x: [B, C, H, W].
        size: of the result, at least (H, W).
        zeros: add zeros instead of repeating.

    Returns:
        [B, C, *size].
    """
    H, W = x.shape[-2:]
    if not is_exported() and not in_torch_compile():
        if size == (H, W):
            return x
        return F.pad(x, (0, size[1] - W, 0, size[0] - H)) if zeros else extended(x, size[0] - H, size[1] - W)
    for dim in (2, 3):
        P, p = size[dim - 2], x.shape[dim]
        if known(P == p):
            continue
        pixel = torch.arange(P, device=x.device)
        x = x.index_select(dim, pixel.clamp(max=p - 1))
        if zeros:
            inside = (pixel < p).to(x.dtype)
            x = x * (inside if dim == 3 else inside[:, None])
    return x


def cropped_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The first rows and columns of a map: [B, C, H, W] -> [B, C, *size]. See `extended_to` for exported programs."""
    if not is_exported():
        return x[..., : size[0], : size[1]]
    for dim in (2, 3):
        if not known(x.shape[dim] == size[dim - 2]):
            x = x.index_select(dim, torch.arange(size[dim - 2], device=x.device))
    return x


def at_least(n: int, minimum: int) -> int:
    """The larger of n and minimum; in exported programs for every size, not only for the example's.

    A compiled program is only valid for sizes on one side of the minimum: the compiler could not tell which numbers
    divide a symbolic maximum.
    """
    if is_exported():
        larger: Any = torch.sym_max(n, minimum)
        return larger
    return n if n >= minimum else minimum


def is_exported() -> bool:
    """Whether a program is being exported, whose sizes may be dynamic."""
    return is_portable() or torch.compiler.is_exporting()
