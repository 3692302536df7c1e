"""timm's layers with TensorFlow's "same" padding, whose amount depends on the size of the map.

The output has ceil(H / stride) rows. The rows that are missing for the last one are divided between both ends, with the
larger half at the bottom; the same holds for columns. timm computes the padding in floating point. Here it is computed
in integers, which exported and compiled programs with dynamic sizes can simplify; the results are the same.
"""

from typing import Any

import torch.nn.functional as F
from timm.layers import Conv2dSame, StdConv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn


class SameConv2d(Conv2dSame):
    """A convolution with "same" padding."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        layer: Any = self  # timm's parents are not typed
        return F.conv2d(_padded(self, x), layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)


class SameStdConv2d(StdConv2dSame):
    """A convolution with standardised weights and "same" padding (timm's `same_pad`)."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        return super().forward(_padded(self, x))


class SameMaxPool2d(MaxPool2dSame):
    """Max pooling with "same" padding."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)]."""
        layer: Any = self
        padded = _padded(self, x, value=-float("inf"))
        return F.max_pool2d(padded, layer.kernel_size, layer.stride, 0, layer.dilation, layer.ceil_mode)


def take_same_layers(network: nn.Module) -> None:
    """Replace timm's layers with "same" padding by those of this file; parameters and names are kept."""
    for module in network.modules():
        if isinstance(module, StdConv2dSame) and not module.same_pad:
            continue
        for theirs, ours in ((Conv2dSame, SameConv2d), (StdConv2dSame, SameStdConv2d), (MaxPool2dSame, SameMaxPool2d)):
            if type(module) is theirs:
                module.__class__ = ours
        if isinstance(module, SameStdConv2d):
            setattr(module, "same_pad", False)  # noqa: B010  (it has been padded when timm's `forward` is called)


def _padded(layer: Any, x: Tensor, value: float = 0.0) -> Tensor:
    rows, columns = (
        _beyond(size, *settings)
        for size, *settings in zip(x.shape[-2:], layer.kernel_size, layer.stride, layer.dilation, strict=True)
    )
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), value=value)


def _beyond(size: int, kernel_size: int, stride: int, dilation: int) -> int:
    reach = dilation * (kernel_size - 1) + 1
    return max(0, (size + stride - 1) // stride * stride - stride + reach - size)
