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
from resfu.ops.layout import pad
from resfu.ops.similarity.gathered import gathered_taps

Rows = Callable[[int, int], Tensor]


def paired_central_difference(
    key: Tensor, query: Tensor, weight: Tensor, bias: Tensor, step: tuple[int, int], neighbours: str
) -> Rows:
    """The fast equal of `reference.paired_central_difference`: a function of (first row, one past the last)."""
    groups = query.shape[1] // weight.shape[1]
    convolved = _convolution(key, query, weight, step, neighbours)
    centre = -weight.sum((2, 3), keepdim=True)

    def rows(first: int, last: int) -> Tensor:
        return F.conv2d(query[:, :, first:last], centre, bias, groups=groups).add_(convolved(first, last))

    return rows


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
    if (rh is None or rw is None) and torch.compiler.is_compiling():
        return _gathered(key, weight, groups, step)
    if rh is None or rw is None:
        return _sampled(key, weight, groups, (H, W), step)
    top, left = rh * (K // 2), rw * (K // 2)
    padded = _channels_last(pad(key, top, left))
    weight = _channels_last(weight)
    return lambda first, last: F.conv2d(padded[:, :, first : last + 2 * top], weight, dilation=(rh, rw), groups=groups)


def _upsampled(
    key: Tensor, weight: Tensor, groups: int, size: tuple[int, int], step: tuple[int, int], neighbours: str
) -> Rows:
    reach = weight.shape[-1] // 2 + 1
    padded = _channels_last(pad(key, reach, reach))
    low = F.conv2d(padded, _channels_last(weight), groups=groups)  # [B, M, h + 2, w + 2]
    rh, rw = integer_ratio(size[0], step[0]), integer_ratio(size[1], step[1])
    if neighbours == "fine" and rh is not None and rw is not None:
        return lambda first, last: _interpolated(low, rh, rw, first, last)[..., rw:-rw]
    rows, columns = (key_position(P, p, neighbours, key.device) + 1 for P, p in zip(size, step, strict=True))
    wide = sample_axis(low, columns, -1)
    return lambda first, last: sample_axis(wide, rows[first:last], -2)


def _interpolated(low: Tensor, rh: int, rw: int, first: int, last: int) -> Tensor:
    """Rows of the map, upsampled by whole ratios and cropped by one LR row above and below."""
    first, last = first + rh, last + rh
    top, bottom = (2 * first + 1 - rh) // (2 * rh), (2 * last - 1 - rh) // (2 * rh) + 2
    part = low[:, :, top:bottom]
    part = F.interpolate(part, size=(part.shape[-2] * rh, part.shape[-1] * rw), mode="bilinear", align_corners=False)
    return part[:, :, first - top * rh : last - top * rh]


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


def _gathered(key: Tensor, weight: Tensor, groups: int, step: tuple[int, int]) -> Rows:
    """The same as one convolution of all taps side by side: compiling K x K of them takes minutes at K = 7."""
    K = weight.shape[-1]
    taps = gathered_taps(key, K, step)
    return lambda first, last: F.conv2d(taps[:, :, first * K : last * K], weight, stride=K, groups=groups)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
