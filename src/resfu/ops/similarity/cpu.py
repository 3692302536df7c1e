"""Similarity scores without an upsampled key, in bands of rows that stay in the cache.

Convolving a bilinearly upsampled key with a dilation of one LR pixel equals upsampling the undilated convolution of the
LR key. The second term of the paired difference is a 1 x 1 convolution of the query. All operators are plain and
differentiable; under autograd there is a single band, the whole map.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from resfu.ops.grid import integer_ratio, interpolation_matrix
from resfu.ops.layout import channels_last, pad
from resfu.ops.similarity.convolution import dilated_convolution
from resfu.ops.similarity.fractional import fractional_convolution
from resfu.ops.transforms import add_into

Rows = Callable[[int, int], Tensor]


def paired_central_difference(
    key: Tensor, query: Tensor, weight: Tensor, bias: Tensor, step: tuple[int, int], neighbours: str
) -> Rows:
    """`reference.paired_central_difference`, fast, as a function of (first row, one past the last)."""
    groups = query.shape[1] // weight.shape[1]
    convolved = convolution(key, query, weight, step, neighbours)
    centre = -weight.sum((2, 3), keepdim=True)

    def rows(first: int, last: int) -> Tensor:
        return add_into(F.conv2d(query[:, :, first:last], centre, bias, groups=groups), convolved(first, last))

    return rows


def concatenation(
    key: Tensor, query: Tensor, weight: Tensor, bias: Tensor, step: tuple[int, int], neighbours: str
) -> Rows:
    """`reference.concatenation`, fast, as a function of (first row, one past the last)."""
    half = weight.shape[1] // 2
    of_query = convolution(query, query, weight[:, :half], step, neighbours)
    of_key = convolution(key, query, weight[:, half:], step, neighbours)
    return lambda first, last: of_query(first, last) + of_key(first, last) + bias.view(-1, 1, 1)


def convolution(key: Tensor, query: Tensor, weight: Tensor, step: tuple[int, int], neighbours: str) -> Rows:
    """Rows of the K x K convolution of the key, with taps one LR pixel apart."""
    (H, W), (h, w) = query.shape[-2:], step
    K, groups = weight.shape[-1], query.shape[1] // weight.shape[1]
    if key.shape[-2:] != query.shape[-2:]:
        return _upsampled(key, weight, groups, (H, W), step, neighbours)
    rh, rw = integer_ratio(H, h), integer_ratio(W, w)
    if rh is None or rw is None:
        return fractional_convolution(key, weight, groups, step)
    top, left = rh * (K // 2), rw * (K // 2)
    padded = channels_last(pad(key, top, left))
    weight = channels_last(weight)
    return lambda first, last: dilated_convolution(padded[:, :, first : last + 2 * top], weight, (rh, rw), groups)


def _upsampled(
    key: Tensor, weight: Tensor, groups: int, size: tuple[int, int], step: tuple[int, int], neighbours: str
) -> Rows:
    reach = weight.shape[-1] // 2 + 1
    padded = channels_last(pad(key, reach, reach))
    low = F.conv2d(padded, channels_last(weight), groups=groups)  # [B, M, h + 2, w + 2]
    rh, rw = integer_ratio(size[0], step[0]), integer_ratio(size[1], step[1])
    if neighbours == "fine" and rh is not None and rw is not None:

        def scaled(first: int, last: int) -> Tensor:
            top, bottom = _seen(first, last, size[0], step[0])
            H, W = (bottom - top) * rh, (step[1] + 2) * rw
            part = F.interpolate(low[:, :, top:bottom], size=(H, W), mode="bilinear", align_corners=False)
            above = (1 - top) * rh  # rows of the part before the map's own first
            return part.narrow(2, above + first, last - first).narrow(3, rw, size[1])

        return scaled
    return _interpolated(low, size, step, neighbours)


def convolution_at_any_ratio(
    key: Tensor, query: Tensor, weight: Tensor, step: tuple[int, int], neighbours: str
) -> Tensor:
    """All rows of `convolution`, by code that does not depend on whether a ratio is whole, for dynamic sizes."""
    groups, (H, W) = query.shape[1] // weight.shape[1], query.shape[-2:]
    if key.shape[-2:] == query.shape[-2:]:
        return fractional_convolution(key, weight, groups, step)(0, H)
    reach = weight.shape[-1] // 2 + 1
    low = F.conv2d(pad(key, reach, reach), weight, groups=groups)
    return _interpolated(low, (H, W), step, neighbours)(0, H)


def _interpolated(low: Tensor, size: tuple[int, int], step: tuple[int, int], neighbours: str) -> Rows:
    """Rows of an LR map [B, M, h + 2, w + 2] with a border of one pixel, interpolated at the positions of HR pixels."""
    rows, columns = (interpolation_matrix(P, p, low, neighbours, 1) for P, p in zip(size, step, strict=True))
    wide = (columns @ low.permute(0, 2, 3, 1)).flatten(2)  # [B, h + 2, W M]

    def interpolated(first: int, last: int) -> Tensor:
        top, bottom = _seen(first, last, size[0], step[0])
        part = rows[first:last, top:bottom] @ wide[:, top:bottom]
        return part.unflatten(2, (size[1], -1)).permute(0, 3, 1, 2)

    return interpolated


def _seen(first: int, last: int, H: int, h: int) -> tuple[int, int]:
    """The rows (top, one past the bottom) of an LR map with a border of one row that HR rows first .. last - 1 need."""
    if (first, last) == (0, H):
        return 0, h + 2
    top, bottom = (((2 * p + 1) * h - H) // (2 * H) + 1 for p in (first, last - 1))
    return top, bottom + 2
