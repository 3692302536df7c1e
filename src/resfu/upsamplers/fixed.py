"""Upsamplers without content: nearest and bilinear interpolation."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.upsamplers.base import Upsampler


class Nearest(Upsampler):
    """Nearest-neighbour interpolation: out[p, q] = x[floor(p h / H), floor(q w / W)].

    Args:
        scale_factor: ratio used when neither a size nor a guidance is given.
    """

    def __init__(self, scale_factor: int | float | None = None) -> None:
        super().__init__(scale_factor=scale_factor)

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Repeat each low-resolution pixel."""
        return F.interpolate(features, size=size, mode="nearest")


class Bilinear(Upsampler):
    """Bilinear interpolation with half-pixel centres (`align_corners=False`) and clamped borders.

    Args:
        scale_factor: ratio used when neither a size nor a guidance is given.
    """

    def __init__(self, scale_factor: int | float | None = None) -> None:
        super().__init__(scale_factor=scale_factor)

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Interpolate linearly along rows, then columns."""
        return F.interpolate(features, size=size, mode="bilinear", align_corners=False)
