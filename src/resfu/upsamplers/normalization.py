"""Normalisation layers that several upsamplers share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.similarity import upsampled_group_norm


class GroupNorm(nn.GroupNorm):
    """PyTorch's GroupNorm, without its error if each group is a single value: the result then is the bias."""

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise every group of channels by its own mean and variance."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class UpsampledGroupNorm(GroupNorm):
    """GroupNorm that can use the statistics that a low-resolution map would have after upsampling."""

    def forward(
        self,
        input: Float[Tensor, "B C H W"],
        size: tuple[int, int] | None = None,
        neighbours: str = "fine",
        backend: str = "auto",
    ) -> Float[Tensor, "B C H W"]:
        """Normalise by the mean and variance of the map upsampled to `size`; see `ops.upsampled_group_norm`."""
        if size is None or tuple(input.shape[-2:]) == size:
            return super().forward(input)
        return upsampled_group_norm(input, size, self.num_groups, self.weight, self.bias, self.eps, neighbours, backend)


def group_norm(channels: int) -> GroupNorm:
    """GroupNorm with the published 32 groups, or with the largest smaller number that divides the width."""
    groups = next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)
    return GroupNorm(groups, channels)


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's BatchNorm2d, with an error message that says what to do about a batch without variance."""

    def _check_input_dim(self, input: Tensor) -> None:
        super()._check_input_dim(input)
        if self.training:
            check_variance(input)


def check_variance(input: Tensor) -> None:
    """Refuse to train batch normalisation on one image of one pixel.

    Args:
        input: [B, C, H, W].

    Raises:
        ValueError: if the batch has one value for each channel; the message says what to do.
    """
    if input.numel() == input.shape[1]:
        raise ValueError(
            f"batch normalisation has no variance to train with in {list(input.shape)}, one image and one pixel: "
            "put two images or more into a batch (larger images do, where this is no pooled map), or call .eval()."
        )


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of a map [B, C, H, W]."""

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise every pixel by its own mean and variance."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)
