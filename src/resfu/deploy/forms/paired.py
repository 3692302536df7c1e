"""Rows of the convolutions of ReSFU's keys, with taps one low-resolution pixel apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.grid import integer_ratio, lr_cell
from resfu.ops.layout import pad
from resfu.ops.similarity.convolution import dilated_convolution
from resfu.ops.similarity.fractional import sampled_taps, weighed_taps

Rows = tuple[int, int]


def semantic_map(key: Tensor, weight: Tensor) -> Tensor:
    """The K x K convolution of a low-resolution key, with a border of one pixel: [B, M, h + 2, w + 2]."""
    reach = weight.shape[-1] // 2 + 1
    return F.conv2d(pad(key, reach, reach), weight, groups=key.shape[1] // weight.shape[1])


class SemanticRows:
    """Rows of the convolution of the upsampled key, which is the upsampled convolution of the low-resolution key.

    The few low-resolution rows that are needed are interpolated along their columns once.

    Args:
        convolved: the convolved key, see `semantic_map`.
        rows: the rows of the image for which `of` will be called.
        size: (H, W) of the image.
        low: (h, w) of the key.
    """

    def __init__(self, convolved: Tensor, rows: Rows, size: tuple[int, int], low: tuple[int, int]) -> None:
        (H, W), (h, w), kind = size, low, (convolved.device, convolved.dtype)
        cell, fraction = lr_cell(W, w, *kind)
        self._first, (self._cell, self._fraction) = rows[0], (t[slice(*rows)] for t in lr_cell(H, h, *kind))
        self._top = int(self._cell[0]) + 1
        x = convolved[:, :, self._top : int(self._cell[-1]) + 3]
        self._wide = torch.lerp(x.index_select(3, cell + 1), x.index_select(3, cell + 2), fraction)

    def of(self, rows: Rows) -> Tensor:
        """The given rows, [B, M, rows, W]."""
        part = slice(rows[0] - self._first, rows[1] - self._first)
        place = self._cell[part] + 1 - self._top
        low_rows, high_rows = self._wide.index_select(2, place), self._wide.index_select(2, place + 1)
        return torch.lerp(low_rows, high_rows, self._fraction[part, None])


def detail_rows(
    key: Tensor, first: int, rows: Rows, weight: Tensor, size: tuple[int, int], low: tuple[int, int]
) -> Tensor:
    """Rows of the convolution of a high-resolution key, of which only some rows are given.

    Args:
        key: [B, D, n, W], all rows within reach of the wanted rows, as far as they lie inside the image.
        first: index in the image of the key's first row.
        rows: (first, one past the last) that are wanted.
        weight: [M, D / G, K, K].
        size: (H, W) of the image.
        low: (h, w). Taps are H / h and W / w pixels apart; if these are not whole, taps lie between pixels.
    """
    K, groups = weight.shape[-1], key.shape[1] // weight.shape[1]
    (H, W), (h, w) = size, low
    top, left = -(-(K // 2) * H // h) + 1, -(-(K // 2) * W // w) + 1
    # Beyond the image's border its last row is repeated.
    place = torch.arange(rows[0] - top, rows[1] + top, device=key.device).clamp(0, H - 1) - first
    place = place.clamp(0, key.shape[2] - 1)
    x = pad(key.index_select(2, place), 0, left)
    rh, rw = integer_ratio(H, h), integer_ratio(W, w)
    if rh is not None and rw is not None:
        x = x[:, :, top - rh * (K // 2) : x.shape[2] - top + rh * (K // 2)]
        x = x[:, :, :, left - rw * (K // 2) : x.shape[3] - left + rw * (K // 2)]
        return dilated_convolution(x, weight, (rh, rw), groups)
    taps = sampled_taps(x, K, size, low, (top, left), rows[1] - rows[0])
    return weighed_taps(taps, weight, groups)
