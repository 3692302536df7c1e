"""PyTorch's replicate and reflect padding, without storing the map for the backward pass."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_GRADIENTS = {
    "replicate": torch.ops.aten.replication_pad2d_backward,
    "reflect": torch.ops.aten.reflection_pad2d_backward,
}


def padded(x: Tensor, rows: int, columns: int, padding: str) -> Tensor:
    """Pad x [B, C, H, W] to [B, C, H + 2 rows, W + 2 columns], differentiably.

    PyTorch's own padding stores the map for its gradient, although the gradient only needs the map's size.
    """
    return _Padded.apply(x, (columns, columns, rows, rows), padding)  # pyright: ignore[reportReturnType]


class _Padded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, widths: tuple[int, ...], padding: str) -> Tensor:
        ctx.size, ctx.widths, ctx.padding = x.shape, widths, padding
        return F.pad(x, widths, mode=padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        sized = grad.new_empty(ctx.size)  # only its size is used
        return _GRADIENTS[ctx.padding](grad.contiguous(), sized, ctx.widths), None, None
