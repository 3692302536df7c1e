"""Convolutions and residual blocks of the image encoders in NAF and AnyUp."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.layout import pad
from resfu.upsamplers.normalization import GroupNorm

NORM_GROUPS = 8


def check_mirrored(name: str, size: Sequence[int]) -> None:
    """Raise ValueError for a map with the size (H, W) whose border has no pixel to be mirrored."""
    if min(size) < 2:
        raise ValueError(f"{name} must have at least 2 rows and columns, got {size[0]} x {size[1]}: borders mirror.")


class Convolution(nn.Conv2d):
    """A convolution of stride 1 that pads by mirroring the border, so that the map keeps its size."""

    def forward(self, input: Float[Tensor, "B c H W"]) -> Float[Tensor, "B d H W"]:
        """Mirror, then convolve."""
        reach = self.kernel_size[0] // 2
        return super().forward(pad(input, reach, reach, "reflect") if reach else input)


class NormalizedBlock(nn.Module):
    """GroupNorm, SiLU and convolution, twice, with or without a residual connection.

    Args:
        in_channels: width of the input.
        out_channels: width of the output.
        kernel_size: of both convolutions.
        bias: of both convolutions.
        residual: whether to add the input, after a 1 x 1 convolution if the widths differ.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool, residual: bool) -> None:
        super().__init__()
        self.norm1 = GroupNorm(NORM_GROUPS, in_channels)
        self.conv1 = Convolution(in_channels, out_channels, kernel_size, bias=bias)
        self.norm2 = GroupNorm(NORM_GROUPS, out_channels)
        self.conv2 = Convolution(out_channels, out_channels, kernel_size, bias=bias)
        self.residual = residual
        if residual and in_channels != out_channels:
            self.shortcut = Convolution(in_channels, out_channels, 1, bias=False)

    def forward(self, input: Float[Tensor, "B c H W"]) -> Float[Tensor, "B d H W"]:
        """Apply both layers, and add the input if `residual`."""
        x = self.conv1(F.silu(self.norm1(input)))
        x = self.conv2(F.silu(self.norm2(x)))
        if not self.residual:
            return x
        return x + (self.shortcut(input) if hasattr(self, "shortcut") else input)
