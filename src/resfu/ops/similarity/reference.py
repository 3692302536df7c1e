"""Similarity scores as their equations read. Slow, any device, any dtype: the specification and the oracle."""

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.grid import key_at, key_position, sample, window


def paired_central_difference(
    key: Float[Tensor, "B D h1 w1"],
    query: Float[Tensor, "B D H W"],
    weight: Float[Tensor, "M d K K"],
    bias: Float[Tensor, "M"],
    step: tuple[int, int],
    neighbours: str,
) -> Float[Tensor, "B M H W"]:
    """v[p] = sum_n sum_d w[:, d, n] (key[d, p + o_n] - query[d, p]) + bias (Eq. 11), o_n one LR pixel apart."""
    total = bias.view(-1, 1, 1)
    for y, x, offset in _taps(weight.shape[-1]):
        difference = key_at(key, _size(query), step, offset, neighbours) - query
        total = total + _grouped(difference, weight[:, :, y, x])
    return total


def concatenation(
    key: Float[Tensor, "B D h1 w1"],
    query: Float[Tensor, "B D H W"],
    weight: Float[Tensor, "M d K K"],
    bias: Float[Tensor, "M"],
    step: tuple[int, int],
    neighbours: str,
) -> Float[Tensor, "B M H W"]:
    """Convolution over query and key, in every group the query's channels before the key's (Table VI b)."""
    half = weight.shape[1] // 2
    total = bias.view(-1, 1, 1)
    for y, x, offset in _taps(weight.shape[-1]):
        total = total + _grouped(key_at(query, _size(query), step, offset), weight[:, :half, y, x])
        total = total + _grouped(key_at(key, _size(query), step, offset, neighbours), weight[:, half:, y, x])
    return total


def upsampled_group_norm(
    x: Float[Tensor, "B D h w"],
    size: tuple[int, int],
    groups: int,
    weight: Float[Tensor, "D"],
    bias: Float[Tensor, "D"],
    eps: float,
    neighbours: str,
) -> Float[Tensor, "B D h w"]:
    """(x - mean) / sqrt(variance + eps) weight + bias with the mean and variance of each group of the upsampled map."""
    rows, columns = (key_position(P, p, neighbours, x.device) for P, p in zip(size, x.shape[-2:], strict=True))
    upsampled = sample(x, rows, columns).unflatten(1, (groups, -1))
    mean = upsampled.mean((2, 3, 4), keepdim=True)
    variance = (upsampled - mean).square().mean((2, 3, 4), keepdim=True)
    normalised = ((x.unflatten(1, (groups, -1)) - mean) / (variance + eps).sqrt()).flatten(1, 2)
    return normalised * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)


def _grouped(x: Float[Tensor, "B D H W"], weight: Float[Tensor, "M d"]) -> Float[Tensor, "B M H W"]:
    groups = x.shape[1] // weight.shape[1]
    product = torch.einsum("gmd,bgdhw->bgmhw", weight.unflatten(0, (groups, -1)), x.unflatten(1, (groups, -1)))
    return product.flatten(1, 2)


def _taps(K: int) -> list[tuple[int, int, tuple[int, int]]]:
    return [(y, x, (oy, ox)) for y, oy in enumerate(window(K)) for x, ox in enumerate(window(K))]


def _size(x: Tensor) -> tuple[int, int]:
    return (x.shape[-2], x.shape[-1])
