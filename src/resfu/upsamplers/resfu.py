"""Placeholder until the real one lands in this session."""

import torch.nn.functional as F
from torch import Tensor

from resfu.upsamplers.base import Upsampler


class ReSFU(Upsampler):
    """Being written."""

    guided = True

    def __init__(self, channels: int, guidance_channels: int) -> None:
        super().__init__(channels, guidance_channels)

    def upsample(self, features: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Being written."""
        return F.interpolate(features, size=size, mode="bilinear")
