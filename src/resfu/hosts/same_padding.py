"""Convolutions with TensorFlow's "same" padding, whose amount depends on the size of the map."""

from typing import cast

import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """timm's `Conv2dSame`; the padding is reckoned in whole numbers, which programs of open sizes can simplify.

    The output has ceil(H / stride) rows. What the last one needs beyond the map is divided between both ends, the
    larger half at the bottom; columns likewise.

    Args:
        like: the convolution whose settings and parameters it takes.
    """

    def __init__(self, like: Conv2dSame) -> None:
        super().__init__(
            like.in_channels,  # pyright: ignore[reportArgumentType]
            like.out_channels,  # pyright: ignore[reportArgumentType]
            like.kernel_size,  # pyright: ignore[reportArgumentType]
            like.stride,  # pyright: ignore[reportArgumentType]
            dilation=like.dilation,  # pyright: ignore[reportArgumentType]
            groups=like.groups,  # pyright: ignore[reportArgumentType]
            bias=like.bias is not None,
            device="meta",
        )
        self.weight, self.bias = cast("nn.Parameter", like.weight), cast("nn.Parameter | None", like.bias)

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        rows, columns = (self._beyond(input.shape[axis + 2], axis) for axis in (0, 1))
        padded = F.pad(input, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _beyond(self, size: int, axis: int) -> int:
        reach, stride = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1, self.stride[axis]
        return max(0, (size + stride - 1) // stride * stride - stride + reach - size)


def take_same_convolutions(network: nn.Module) -> None:
    """Put a `SameConv2d` in the place of every `Conv2dSame`, parameters and names kept."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Conv2dSame):
                setattr(parent, name, SameConv2d(child))
