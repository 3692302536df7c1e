"""The layers between paired differences and scores: ReLU, 1 x 1 convolution, ReLU, GroupNorm, 1 x 1 convolution."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Compressor(NamedTuple):
    """Parameters of the layers from M hidden channels to scores: 1 x 1 convolution, GroupNorm, 1 x 1 convolution.

    Shapes: reduce_weight [M, M / G, 1, 1], reduce_bias [M], norm_weight [M], norm_bias [M],
    score_weight [K K, M, 1, 1], score_bias [K K]. norm_groups and eps belong to GroupNorm.

    >>> ones, zeros = torch.ones(16), torch.zeros(16)
    >>> weights = torch.randn(16, 16, 1, 1), torch.randn(9, 16, 1, 1)
    >>> layers = resfu.ops.Compressor(weights[0], zeros, ones, zeros, weights[1], torch.zeros(9))
    """

    reduce_weight: Tensor
    reduce_bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    score_weight: Tensor
    score_bias: Tensor
    norm_groups: int = 8
    eps: float = 1e-5


def hidden_channels(v: Tensor, c: Compressor) -> Tensor:
    """Apply ReLU, the first convolution and ReLU; overwrites v."""
    groups = v.shape[1] // c.reduce_weight.shape[1]
    return F.conv2d(v.relu_(), c.reduce_weight, c.reduce_bias, groups=groups).relu_()


def scores(hidden: Tensor, c: Compressor) -> Tensor:
    """Apply GroupNorm and the last convolution."""
    weight, bias = c.norm_weight.to(hidden.dtype), c.norm_bias.to(hidden.dtype)
    normalised = torch.group_norm(hidden, c.norm_groups, weight, bias, c.eps)  # F's refuses one value a group
    return F.conv2d(normalised, c.score_weight, c.score_bias)


def normalised_convolution(total: Tensor, square: Tensor, pixels: int, c: Compressor) -> tuple[Tensor, Tensor]:
    """The last convolution with GroupNorm folded into it: weight [B, K K, M] and bias [B, K K], in fp64.

    Args:
        total: [B, M], the sum of the hidden channels over an image's pixels, in fp64.
        square: [B, M], the sum of their squares.
        pixels: H W.
        c: the parameters.
    """
    scale, shift = _statistics(total, square, pixels, c)
    weight = c.score_weight.flatten(1).double()
    return weight * scale[:, None], c.score_bias.double() + shift @ weight.T


def _statistics(total: Tensor, square: Tensor, pixels: int, c: Compressor) -> tuple[Tensor, Tensor]:
    """GroupNorm as a scale and a shift for each image and channel, [B, M], from the sums over pixels."""
    M = total.shape[1]
    count = pixels * M // c.norm_groups
    mean = total.unflatten(1, (c.norm_groups, -1)).sum(2, keepdim=True) / count
    variance = square.unflatten(1, (c.norm_groups, -1)).sum(2, keepdim=True) / count - mean * mean
    scale = (variance.clamp(min=0) + c.eps).rsqrt() * c.norm_weight.double().view(c.norm_groups, -1)
    shift = c.norm_bias.double().view(c.norm_groups, -1) - mean * scale
    return scale.flatten(1), shift.flatten(1)
