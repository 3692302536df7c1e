"""Neighbour convolutions and GroupNorm of an upsampled key in standard operators, for other runtimes.

At whole ratios no indexing is needed. The convolution of a low-resolution key is upsampled and cropped, that of the
detail key is dilated, and the mean square of an upsampled map comes from a 3 x 3 convolution of the low-resolution map.
Other ratios run the operators of `cpu.py` and `normalization.py`, which work at dynamic sizes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.layout import pad
from resfu.ops.nearest import repeated
from resfu.ops.portable import registered_decomposition, whole_ratio
from resfu.ops.precision import at_least_fp32
from resfu.ops.similarity import compressor as layers
from resfu.ops.similarity import cpu, normalization, operators
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.similarity.convolution import dilated_convolution


def paired_central_difference(
    key: Tensor, query: Tensor, weight: Tensor, bias: Tensor, step: tuple[int, int], neighbours: str
) -> Tensor:
    """The portable form of `reference.paired_central_difference`."""
    groups = query.shape[1] // weight.shape[1]
    centre = F.conv2d(query, -weight.sum((2, 3), keepdim=True), bias, groups=groups)
    return centre + _convolution(key, query, weight, step, neighbours)


def concatenation(
    key: Tensor, query: Tensor, weight: Tensor, bias: Tensor, step: tuple[int, int], neighbours: str
) -> Tensor:
    """The portable form of `reference.concatenation`."""
    half = weight.shape[1] // 2
    of_query = _convolution(query, query, weight[:, :half], step, neighbours)
    return of_query + _convolution(key, query, weight[:, half:], step, neighbours) + bias.view(-1, 1, 1)


def _convolution(key: Tensor, query: Tensor, weight: Tensor, step: tuple[int, int], neighbours: str) -> Tensor:
    """The K x K convolution of the key, with taps one LR pixel apart."""
    (H, W), (h, w) = query.shape[-2:], step
    K, groups = weight.shape[-1], query.shape[1] // weight.shape[1]
    rows, columns = whole_ratio(H, h), whole_ratio(W, w)
    if rows is None or columns is None:
        return cpu.convolution_at_any_ratio(key, query, weight, step, neighbours)
    if key.shape[-2:] == query.shape[-2:]:
        reach = K // 2
        return dilated_convolution(pad(key, rows * reach, columns * reach), weight, (rows, columns), groups)
    if neighbours == "coarse":
        low = F.conv2d(pad(key, K // 2, K // 2), weight, groups=groups)
        return repeated(low, (H, W))
    low = F.conv2d(pad(key, K // 2 + 1, K // 2 + 1), weight, groups=groups)  # [B, M, h + 2, w + 2]
    size = (H + 2 * rows, W + 2 * columns)
    upsampled = F.interpolate(low, size=size, mode="bilinear", align_corners=False)
    return upsampled[:, :, rows:-rows, columns:-columns]


def upsampled_group_norm(
    x: Tensor, size: tuple[int, int], groups: int, weight: Tensor, bias: Tensor, eps: float, neighbours: str
) -> Tensor:
    """The portable form of `reference.upsampled_group_norm`.

    At whole ratios every LR pixel has the same weight in the mean of the upsampled map. The mean square is the mean of
    x times the convolution of x with U^T U / r along both axes, where U upsamples an axis by r.
    """
    rows, columns = (whole_ratio(P, p) for P, p in zip(size, x.shape[-2:], strict=True))
    if rows is None or columns is None:
        return normalization.upsampled_group_norm(x, size, groups, weight, bias, eps, neighbours)
    if neighbours == "coarse":
        return torch.group_norm(x, groups, weight, bias, eps)
    value = x.unflatten(1, (groups, -1))
    value = (value - value.mean((2, 3, 4), keepdim=True)).flatten(1, 2)
    kernel = torch.outer(_second_moments(rows, x), _second_moments(columns, x))
    spread = F.conv2d(pad(value, 1, 1), kernel.expand(x.shape[1], 1, 3, 3), groups=x.shape[1])
    variance = (spread * value).unflatten(1, (groups, -1)).mean((2, 3, 4), keepdim=True)
    normalised = (value.unflatten(1, (groups, -1)) * (variance + eps).rsqrt()).flatten(1, 2)
    return normalised * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)


def scores(hidden: Tensor, c: Compressor) -> Tensor:
    """The portable form of `compressor.scores`; GroupNorm's factors scale the weights instead of the map."""
    B, M, H, W = hidden.shape
    groups = at_least_fp32(hidden).reshape(B, c.norm_groups, M // c.norm_groups, H, W)
    centred = groups - _group_mean(groups)
    factor = (_group_mean(centred * centred) + c.eps).rsqrt().reshape(B, c.norm_groups, 1)
    factor = factor * c.norm_weight.view(c.norm_groups, -1)
    weight = c.score_weight.flatten(1)
    bias = c.score_bias + weight @ c.norm_bias
    out = (weight * factor.reshape(B, 1, M)) @ centred.reshape(B, M, H * W) + bias[:, None]
    return out.reshape(B, len(weight), H, W).to(hidden.dtype)


def _group_mean(x: Tensor) -> Tensor:
    """Mean over all axes but the first two, one after the other.

    Some runtimes add numbers in sequence, and short sums are more accurate.
    """
    return x.mean(4, keepdim=True).mean(3, keepdim=True).mean(2, keepdim=True)


def _second_moments(ratio: int, like: Tensor) -> Tensor:
    """Kernel [3] from a pixel's two bilinear weights: mean product, mean sum of squares, mean product."""
    fraction = ((2 * torch.arange(ratio, dtype=torch.float64, device=like.device) + 1 - ratio) / (2 * ratio)) % 1
    beside = (fraction * (1 - fraction)).mean()
    centre = (fraction**2 + (1 - fraction) ** 2).mean()
    return torch.stack([beside, centre, beside]).to(like)


@registered_decomposition(operators.similarity_scores)
def _(key: Tensor, query: Tensor, weight: Tensor, bias: Tensor, *rest) -> Tensor:
    *tensors, norm_groups, eps, h, w, neighbours = rest
    compressor = Compressor(*tensors, norm_groups=norm_groups, eps=eps)
    v = paired_central_difference(key, query, weight, bias, (h, w), neighbours)
    return scores(layers.hidden_channels(v, compressor), compressor)
