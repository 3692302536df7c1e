"""Padding of the low-resolution map for windows that reach beyond its border."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.layout import memory_format, pad


def bordered(x: Float[Tensor, "B C h w"], reach: int, padding: str) -> Float[Tensor, "B C h1 w1"]:
    """Pad a map by `reach` pixels on every side.

    Args:
        x: [B, C, h, w].
        reach: K // 2 of the windows.
        padding: one of `layout.PADDINGS`, or "shift": windows of K pixels are moved inwards until they lie inside. K
            consecutive pixels contain each index modulo K once. So a window has the pixels of the moved window if every
            pixel beyond the border is replaced by the pixel K further inside.

    Returns:
        [B, C, h + 2 reach, w + 2 reach].
    """
    if padding != "shift":
        return pad(x, reach, reach, padding)
    if reach == 0:
        return x
    layout = memory_format(x)
    for dim in (2, 3):
        x = torch.cat([_further_in(x, reach, dim, below=True), x, _further_in(x, reach, dim, below=False)], dim)
    return x.contiguous(memory_format=layout)


def _further_in(x: Tensor, reach: int, dim: int, below: bool) -> Tensor:
    """The `reach` pixels before the map (`below`) or after it, read K pixels further inside."""
    length, K = x.shape[dim], 2 * reach + 1
    shortest: Any = torch.sym_min(K, length)
    beyond = torch.arange(reach, device=x.device)
    period = beyond.new_full((1,), shortest)  # ONNX has no remainder by a symbolic size
    index = (beyond - reach) % period if below else length - period + beyond % period
    return x.index_select(dim, index)
