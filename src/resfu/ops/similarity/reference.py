"""Similarity scores, written as their equations: slow, for any device and dtype.

They are the specification, and the tests compare the fast backends with them. So they share no code with these.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def paired_central_difference(
    key: Float[Tensor, "B D h1 w1"],
    query: Float[Tensor, "B D H W"],
    weight: Float[Tensor, "M d K K"],
    bias: Float[Tensor, "M"],
    step: tuple[int, int],
    neighbours: str,
) -> Float[Tensor, "B M H W"]:
    """v[p] = sum_n sum_d w[:, d, n] (key[d, p + o_n] - query[d, p]) + bias (Eq. 11), with o_n one LR pixel apart."""
    total = bias.view(-1, 1, 1)
    for y, x, offset in _taps(weight.shape[-1]):
        difference = _key_at(key, _size(query), step, offset, neighbours) - query
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
    """Convolve query and key together; in every group the query's channels come before the key's (Table VI b)."""
    half = weight.shape[1] // 2
    total = bias.view(-1, 1, 1)
    for y, x, offset in _taps(weight.shape[-1]):
        total = total + _grouped(_key_at(query, _size(query), step, offset), weight[:, :half, y, x])
        total = total + _grouped(_key_at(key, _size(query), step, offset, neighbours), weight[:, half:, y, x])
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
    """(x - mean) / sqrt(variance + eps) weight + bias, with mean and variance of each group of the upsampled map."""
    upsampled = x
    for dim, P in zip((-2, -1), size, strict=True):
        upsampled = _linear(upsampled, _position(P, x.shape[dim], neighbours, x), dim)
    upsampled = upsampled.unflatten(1, (groups, -1))
    mean = upsampled.mean((2, 3, 4), keepdim=True)
    variance = (upsampled - mean).square().mean((2, 3, 4), keepdim=True)
    normalised = ((x.unflatten(1, (groups, -1)) - mean) / (variance + eps).sqrt()).flatten(1, 2)
    return normalised * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)


def _grouped(x: Float[Tensor, "B D H W"], weight: Float[Tensor, "M d"]) -> Float[Tensor, "B M H W"]:
    groups = x.shape[1] // weight.shape[1]
    product = torch.einsum("gmd,bgdhw->bgmhw", weight.unflatten(0, (groups, -1)), x.unflatten(1, (groups, -1)))
    return product.flatten(1, 2)


def _taps(K: int) -> list[tuple[int, int, tuple[int, int]]]:
    offsets = range(-(K // 2), K // 2 + 1)
    return [(y, x, (oy, ox)) for y, oy in enumerate(offsets) for x, ox in enumerate(offsets)]


def _key_at(
    key: Float[Tensor, "B D h1 w1"],
    size: tuple[int, int],
    step: tuple[int, int],
    offset: tuple[int, int],
    neighbours: str = "fine",
) -> Float[Tensor, "B D H W"]:
    """The key's value for each pixel of an H x W image at an offset in LR pixels, clamped to the map.

    The LR map has the size `step`. The key has either this size or the image's size; in the second case an offset of
    one LR pixel is H / h or W / w pixels of the key.
    """
    high = tuple(key.shape[-2:]) == tuple(size)
    for dim, P, p, o in zip((-2, -1), size, step, offset, strict=True):
        if high:
            position = torch.arange(P, dtype=torch.float64, device=key.device) + o * P / p
        else:
            position = _position(P, p, neighbours, key) + o
        key = _linear(key, position, dim)
    return key


def _position(P: int, p: int, neighbours: str, like: Tensor) -> Float[Tensor, "P"]:
    """Positions of pixels on the LR map: (p + 1/2) h / H - 1/2 ("fine"), or the LR pixel that contains the pixel."""
    pixel = torch.arange(P, device=like.device)
    return (pixel.double() + 0.5) * p / P - 0.5 if neighbours == "fine" else (pixel * p // P).double()


def _linear(x: Tensor, position: Float[Tensor, "P"], dim: int) -> Tensor:
    """Linear interpolation along an axis, clamped to its ends."""
    last = x.shape[dim] - 1
    position = position.clamp(0, last)
    below = position.floor().long()
    fraction = (position - below).to(x.dtype)
    values = x.index_select(dim, below), x.index_select(dim, (below + 1).clamp(max=last))
    return torch.lerp(*values, fraction[:, None] if dim == -2 else fraction)


def _size(x: Tensor) -> tuple[int, int]:
    return (x.shape[-2], x.shape[-1])
