"""Convolution of a map whose taps lie between its pixels, for ratios that are not whole.

The taps are o P / p pixels apart: the same fraction of a pixel for all pixels of an axis. So they are pairs of shifted
views and one weight, along the rows first and then along the columns, and no position is looked up.
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
        A function of (first row, one past the last): [B, D, K, K, rows, W].
    """
    (H, W), (h, w), reach = key.shape[-2:], step, K // 2
    top, left = reach * H // h + 1, reach * W // w + 1
    padded = pad(key.contiguous(), top, left)

    def rows(first: int, last: int) -> Tensor:
        taps = _shifted(padded[:, :, None], K, (H, h), -2, top + first, last - first)  # [B, D, K, rows, W + 2 left]
        return _shifted(taps[:, :, :, None], K, (W, w), -1, left, W)

    return rows


def fractional_convolution(
    key: Tensor, weight: Tensor, groups: int, step: tuple[int, int]
) -> Callable[[int, int], Tensor]:
    """The convolution with these taps: a function of (first row, one past the last) to [B, M, rows, W].

    Args:
        key: [B, D, H, W].
        weight: [M, D / groups, K, K].
        groups: of the convolution.
        step: (h, w), the size of the LR map.
    """
    taps = fractional_taps(key, weight.shape[-1], step)
    matrix = weight.flatten(1).unflatten(0, (groups, -1))  # [G, M / G, d K K]

    def rows(first: int, last: int) -> Tensor:
        values = taps(first, last)
        product = matrix @ values.flatten(4).unflatten(1, (groups, -1)).flatten(2, 4)  # [B, G, M / G, rows W]
        return product.flatten(1, 2).unflatten(2, values.shape[-2:])

    return rows


def _shifted(x: Tensor, K: int, ratio: tuple[int, int], dim: int, first: int, count: int) -> Tensor:
    """x [..., 1, rows, columns] along an axis at first + o P / p and on, for each offset o: [..., K, rows, columns]."""
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
