"""Pairs of low- and high-resolution features of one image: what an upsampler is fitted to without labels."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.frozen.encoder import IMAGENET_MEAN, IMAGENET_STD, FrozenEncoder, resized

Pairs = Literal["scales", "pooled"]
_GUIDANCE = 224  # at most, rows and columns of the image that steers, and four times the target's


class Pair(NamedTuple):
    """What an upsampler sees and what it should give.

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
    """Features of images at half their resolution and at the whole (NAF's recipe, arXiv 2511.18452).

    Args:
        encoder: whose features they are.
        images: [B, 3, H, W] in 0..1.
        pairs: "scales" asks the encoder about the image at half its size, as published. An encoder that sees another
            thing there than in the whole image leaves a gap that no upsampler can close. "pooled" has none: the low
            features are the high ones, averaged over 2 x 2.
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
