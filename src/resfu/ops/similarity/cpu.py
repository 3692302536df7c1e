"""Similarity scores without high-resolution keys, on bands of rows that stay in the cache.

The convolution of a bilinearly upsampled key with a dilation of one LR pixel is the upsampled undilated convolution of
the LR key; the paired difference's second term is a 1 x 1 convolution of the query. Plain differentiable operators:
under autograd there is one band, the whole map.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.grid import integer_ratio, key_at, key_position, sample_axis, window

Rows = Callable[[int, int], Tensor]


def paired_central_difference(
    key: Tensor, query: Tensor, weight: Tensor, bias: Tensor, step: tuple[int, int], neighbours: str
) -> Rows:
    """The fast equal of `reference.paired_central_difference`: a function of (first row, one past the last)."""
    groups = query.shape[1] // weight.shape[1]
    convolved = _convolution(key, query, weight, step, neighbours)
    centre = -weight.sum((2, 3), keepdim=True)
    return lambda first, last: convolved(first, last) + F.conv2d(query[:, :, first:last], centre, bias, groups=groups)


def concatenation(
    key: Tensor, query: Tensor, weight: Tensor, bias: Tensor, step: tuple[int, int], neighbours: str
) -> Rows:
    """The fast equal of `reference.concatenation`: a function of (first row, one past the last)."""
    half = weight.shape[1] // 2
    of_query = _convolution(query, query, weight[:, :half], step, neighbours)
    of_key = _convolution(key, query, weight[:, half:], step, neighbours)
    return lambda first, last: of_query(first, last) + of_key(first, last) + bias.view(-1, 1, 1)


def _convolution(key: Tensor, query: Tensor, weight: Tensor, step: tuple[int, int], neighbours: str) -> Rows:
    """Rows of the K x K convolution of the key whose taps are one LR pixel apart."""
    (H, W), (h, w) = query.shape[-2:], step
    K, groups = weight.shape[-1], query.shape[1] // weight.shape[1]
    if key.shape[-2:] != query.shape[-2:]:
        return _upsampled(key, weight, groups, (H, W), step, neighbours)
    rh, rw = integer_ratio(H, h), integer_ratio(W, w)
    if rh is None or rw is None:
        return _sampled(key, weight, groups, (H, W), step)
    top, left = rh * (K // 2), rw * (K // 2)
    padded = _channels_last(F.pad(key, (left, left, top, top), mode="replicate"))
    weight = _channels_last(weight)
    return lambda first, last: F.conv2d(padded[:, :, first : last + 2 * top], weight, dilation=(rh, rw), groups=groups)


def _upsampled(
    key: Tensor, weight: Tensor, groups: int, size: tuple[int, int], step: tuple[int, int], neighbours: str
) -> Rows:
    reach = weight.shape[-1] // 2 + 1
    padded = _channels_last(F.pad(key, (reach,) * 4, mode="replicate"))
    low = F.conv2d(padded, _channels_last(weight), groups=groups).permute(0, 2, 3, 1)  # [B, h + 2, w + 2, M]
    rows, columns = (key_position(P, p, neighbours, key.device) + 1 for P, p in zip(size, step, strict=True))
    wide = sample_axis(low, columns, 2)
    return lambda first, last: sample_axis(wide, rows[first:last], 1).permute(0, 3, 1, 2)


def _sampled(key: Tensor, weight: Tensor, groups: int, size: tuple[int, int], step: tuple[int, int]) -> Rows:
    """A real ratio puts the taps between the key's pixels: sample the whole map for each of them."""
    K = weight.shape[-1]

    def rows(first: int, last: int) -> Tensor:
        total = None
        for y, oy in enumerate(window(K)):
            for x, ox in enumerate(window(K)):
                tap = key_at(key, size, step, (oy, ox))[:, :, first:last]
                term = F.conv2d(tap, weight[:, :, y : y + 1, x : x + 1], groups=groups)
                total = term if total is None else total + term
        assert total is not None
        return total

    return rows


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
