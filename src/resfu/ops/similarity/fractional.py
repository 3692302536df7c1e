"""Convolution with taps between the pixels of a map, for ratios that are not whole.

The tap with offset o lies o P / p pixels away, so its fraction of a pixel is the same for all pixels of an axis. So
each tap is a linear interpolation between two shifted views, first along one axis and then along the other, without
indexing.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from resfu.ops.grid import window
from resfu.ops.layout import pad


def fractional_taps(key: Tensor, K: int, step: tuple[int, int]) -> Callable[[int, int], Tensor]:
    """The K x K neighbours of every pixel, one LR pixel apart, sampled bilinearly and clamped to the map.

    Args:
        key: [B, D, H, W].
        K: odd.
        step: (h, w), the size of the LR map; H / h and W / w are any real ratios.

    Returns:
        A function (first row, one past the last) -> [B, D, K, K, rows, W].
    """
    (H, W), (h, w), reach = key.shape[-2:], step, K // 2
    top, left = reach * H // h + 1, reach * W // w + 1
    padded = pad(key.contiguous(), top, left)
    return lambda first, last: sampled_taps(padded, K, (H, W), step, (top + first, left), last - first)


def sampled_taps(
    padded: Tensor, K: int, size: tuple[int, int], step: tuple[int, int], origin: tuple[int, int], rows: int
) -> Tensor:
    """The taps of some rows of a map with a border.

    Args:
        padded: [B, D, .., ..], the map with a border that is large enough for all taps.
        K: odd.
        size: (H, W) of the map.
        step: (h, w), the size of the LR map.
        origin: (row, column) of the first pixel in `padded`.
        rows: number of rows.

    Returns:
        [B, D, K, K, rows, W].
    """
    taps = _shifted(padded[:, :, None], K, (size[0], step[0]), -2, origin[0], rows)  # [B, D, K, rows, columns]
    return _shifted(taps[:, :, :, None], K, (size[1], step[1]), -1, origin[1], size[1])


def fractional_convolution(
    key: Tensor, weight: Tensor, groups: int, step: tuple[int, int]
) -> Callable[[int, int], Tensor]:
    """The convolution with fractional taps, as a function (first row, one past the last) -> [B, M, rows, W].

    Args:
        key: [B, D, H, W].
        weight: [M, D / groups, K, K].
        groups: of the convolution.
        step: (h, w), the size of the LR map.
    """
    taps = fractional_taps(key, weight.shape[-1], step)
    return lambda first, last: weighed_taps(taps(first, last), weight, groups)


def weighed_taps(taps: Tensor, weight: Tensor, groups: int) -> Tensor:
    """The convolution of taps [B, D, K, K, rows, W] with a weight [M, D / groups, K, K]: [B, M, rows, W]."""
    matrix = weight.flatten(1).unflatten(0, (groups, -1))  # [G, M / G, d K K]
    product = matrix @ taps.flatten(4).unflatten(1, (groups, -1)).flatten(2, 4)  # [B, G, M / G, rows W]
    return product.flatten(1, 2).unflatten(2, taps.shape[-2:])


def _shifted(x: Tensor, K: int, ratio: tuple[int, int], dim: int, first: int, count: int) -> Tensor:
    """Read x [..., 1, rows, columns] along an axis from first + o P / p, for each offset o: [..., K, rows, columns]."""
    P, p = ratio
    views = []
    for o in window(K):
        start = first + o * P // p
        low = x.narrow(dim, start, count)
        if o:
            fraction = torch.full((), o * P % p / p, dtype=x.dtype, device=x.device)
            low = torch.lerp(low, x.narrow(dim, start + 1, count), fraction)
        views.append(low)
    return torch.cat(views, -3)
