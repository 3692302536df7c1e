"""Normalisations that several upsamplers share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def group_norm(channels: int) -> nn.GroupNorm:
    """The published 32 groups, or as many as divide the width."""
    groups = next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of a map [B, C, H, W]."""

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise every pixel by its own mean and variance."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def at_least_fp32(x: Tensor) -> Tensor:
    """The tensor in fp32, or in fp64 where it came so."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
