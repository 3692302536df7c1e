"""Similarity scores as their equations read. Slow, any device, any dtype: the specification and the oracle."""

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.grid import key_at, window


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


def _grouped(x: Float[Tensor, "B D H W"], weight: Float[Tensor, "M d"]) -> Float[Tensor, "B M H W"]:
    groups = x.shape[1] // weight.shape[1]
    product = torch.einsum("gmd,bgdhw->bgmhw", weight.unflatten(0, (groups, -1)), x.unflatten(1, (groups, -1)))
    return product.flatten(1, 2)


def _taps(K: int) -> list[tuple[int, int, tuple[int, int]]]:
    return [(y, x, (oy, ox)) for y, oy in enumerate(window(K)) for x, ox in enumerate(window(K))]


def _size(x: Tensor) -> tuple[int, int]:
    return (x.shape[-2], x.shape[-1])
