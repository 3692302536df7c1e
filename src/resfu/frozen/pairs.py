"""Pairs of low- and high-resolution features of an image, to train an upsampler without labels."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.frozen.encoder import IMAGENET_MEAN, IMAGENET_STD, FrozenEncoder, resized

Pairs = Literal["scales", "pooled"]
_GUIDANCE = 224  # the guidance has at most this many rows and columns, and at most four times the target's


class Pair(NamedTuple):
    """The input and the target of an upsampler.

    Attributes:
        low: [B, C, h, w].
        guidance: [B, 3, Hy, Wy], normalised as ImageNet.
        high: [B, C, H, W].
    """

    low: Tensor
    guidance: Tensor
    high: Tensor


@torch.no_grad()
def feature_pair(encoder: FrozenEncoder, images: Tensor, pairs: Pairs = "scales") -> Pair:
    """Features of images at half and at full resolution (NAF's recipe, arXiv 2511.18452).

    Args:
        encoder: computes the features.
        images: [B, 3, H, W] in 0..1.
        pairs: how the low-resolution features are made. "scales", as published: from the image at half its size. If the
            encoder computes different features at this scale, no upsampler can close the gap. "pooled": by averaging
            the high-resolution features over 2 x 2, which leaves no such gap; but an upsampler that undoes this
            averaging gives blocks. docs/pixel_features.md compares both.
    """
    size = encoder.size_for((images.shape[-2], images.shape[-1]))
    high = encoder(resized(images, size)).float()
    if pairs == "pooled":
        low = F.adaptive_avg_pool2d(high, (max(2, high.shape[-2] // 2), max(2, high.shape[-1] // 2)))
    else:
        low = encoder(resized(images, encoder.size_for((size[0] // 2, size[1] // 2)))).float()
    H, W = (min(_GUIDANCE, 4 * n, side) for n, side in zip(high.shape[-2:], images.shape[-2:], strict=True))
    mean, std = (torch.tensor(t, device=images.device)[:, None, None] for t in (IMAGENET_MEAN, IMAGENET_STD))
    return Pair(low, (resized(images, (H, W)) - mean) / std, high)
