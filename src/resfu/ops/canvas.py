"""Maps continued or cropped at the bottom and right to a size, also to one that a program computes for each input."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.compiling import in_torch_compile
from resfu.ops.layout import extended
from resfu.ops.portable import is_portable, known


def extended_to(x: Tensor, size: tuple[int, int], zeros: bool = False) -> Tensor:
    """Repeat a map's last row and column, or add zeros, up to a size.

    Exported and compiled programs read every row and column from its place: with an example that needs no more of them
    an exported one would leave out the step for all images, and a compiled one would not see that sizes are multiples
    of the network's stride. The sizes of all its maps are then long formulas, whose handling takes tens of minutes.

    Args:
        x: [B, C, H, W].
        size: of the result, at least (H, W).
        zeros: whether zeros are added.

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
    """The larger one; in exported programs for every size, not for the example's alone.

    A compiled program holds for sizes on one side of the minimum: of a maximum it can't say what divides it.
    """
    if is_exported():
        larger: Any = torch.sym_max(n, minimum)
        return larger
    return n if n >= minimum else minimum


def is_exported() -> bool:
    """Whether a program is in the making, for which sizes may be open."""
    return is_portable() or torch.compiler.is_exporting()
