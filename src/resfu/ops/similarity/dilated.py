"""Similarity with neighbours a fixed number of pixels apart, whatever the ratio of the resolutions."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.checks import check_int, check_maps, check_widths, window_size
from resfu.ops.grid import window
from resfu.ops.layout import pad
from resfu.ops.similarity.convolution import dilated_convolution


def dilated_differences(
    key: Float[Tensor, "B D h1 w1"],
    query: Float[Tensor, "B D H W"],
    weight: Float[Tensor, "M d K K"],
    bias: Float[Tensor, "M"],
    dilation: int,
) -> Float[Tensor, "B M H W"]:
    """Convolve paired central differences of neighbours that are `dilation` pixels apart; see `similarity_scores`.

    Args:
        key: [B, D, H, W].
        query: [B, D, H, W].
        weight: [M, D / G, K, K].
        bias: [M].
        dilation: distance between neighbours, in pixels.

    Returns:
        [B, M, H, W].

    Raises:
        ValueError: for anything but floating point maps of one size, or a dilation below 1.
    """
    check_maps(key=key, query=query)
    check_widths(query=query, key=key)
    check_int("dilation", dilation)
    if key.shape[-2:] != query.shape[-2:]:
        raise ValueError(f"key and query must have the same size, got {list(key.shape)} and {list(query.shape)}.")
    groups, reach = query.shape[1] // weight.shape[1], dilation * (weight.shape[-1] // 2)
    padded = pad(key.contiguous(), reach, reach)
    centre = F.conv2d(query, -weight.sum((2, 3), keepdim=True), bias, groups=groups)
    return centre + dilated_convolution(padded, weight, (dilation, dilation), groups)


def without_outside(scores: Float[Tensor, "B KK H W"], dilation: int) -> Float[Tensor, "B KK H W"]:
    """Set the scores of neighbours outside the image to minus infinity, so that a softmax gives them weight 0.

    Args:
        scores: [B, K * K, H, W].
        dilation: distance between neighbours, in pixels.

    Returns:
        [B, K * K, H, W].

    Raises:
        ValueError: for anything but a floating point map of K * K channels with K odd.
    """
    check_maps(scores=scores)
    offsets = (
        dilation * torch.tensor(window(window_size("scores", scores.shape[1], groups=1)), device=scores.device)[:, None]
    )
    inside = []
    for length in scores.shape[-2:]:
        position = torch.arange(length, device=scores.device) + offsets
        inside.append((position >= 0) & (position < length))
    both = inside[0][:, None, :, None] & inside[1][None, :, None, :]
    return scores.masked_fill(~both.flatten(0, 1), float("-inf"))
