"""Reassembly over a window of the high-resolution map itself, tap by tap on bands of rows that stay in the cache."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

_BAND_ELEMENTS = 1 << 18  # of the output: 1 MB in fp32


def window_sum(
    padded: Float[Tensor, "B C HP WP"],
    weights: Float[Tensor, "B GMM H W"],
    groups: int,
    memory_format: torch.memory_format,
) -> Float[Tensor, "B C H W"]:
    """Sum each pixel's M x M window of the padded map with that pixel's weights."""
    (B, C), (H, W) = padded.shape[:2], weights.shape[-2:]
    out = torch.empty((B, C, H, W), dtype=padded.dtype, memory_format=memory_format).zero_()
    for band, y, x, n in _taps(weights, C, groups):
        value = padded[:, :, band.start + y : band.stop + y, x : x + W].unflatten(1, (groups, -1))
        out[:, :, band].unflatten(1, (groups, -1)).addcmul_(value, _weight(weights, groups, n, band))
    return out


def window_sum_to_features(grad: Float[Tensor, "B C H W"], weights: Float[Tensor, "B GMM H W"], groups: int) -> Tensor:
    """The adjoint of `window_sum` in the padded map."""
    B, C, H, W = grad.shape
    reach = round((weights.shape[1] // groups) ** 0.5) // 2
    out = grad.new_zeros((B, C, H + 2 * reach, W + 2 * reach))
    for band, y, x, n in _taps(weights, C, groups):
        target = out[:, :, band.start + y : band.stop + y, x : x + W].unflatten(1, (groups, -1))
        target.addcmul_(grad[:, :, band].unflatten(1, (groups, -1)), _weight(weights, groups, n, band))
    return out


def window_sum_to_weights(grad: Float[Tensor, "B C H W"], padded: Float[Tensor, "B C HP WP"], groups: int) -> Tensor:
    """The adjoint of `window_sum` in its weights."""
    B, C, H, W = grad.shape
    M = padded.shape[-1] - W + 1
    out = grad.new_empty((B, groups * M * M, H, W))
    for band, y, x, n in _taps(out, C, groups):
        value = padded[:, :, band.start + y : band.stop + y, x : x + W]
        product = (grad[:, :, band] * value).unflatten(1, (groups, -1)).sum(2)
        out.unflatten(1, (groups, -1))[:, :, n, band] = product
    return out


def _weight(weights: Tensor, groups: int, n: int, band: slice) -> Tensor:
    return weights.unflatten(1, (groups, -1))[:, :, n, band].unsqueeze(2)


def _taps(weights: Tensor, C: int, groups: int) -> Iterator[tuple[slice, int, int, int]]:
    """(band of rows, iy, ix, n) over all bands and taps, bands outermost."""
    B, GMM, H, W = weights.shape
    M = round((GMM // groups) ** 0.5)
    rows = max(1, _BAND_ELEMENTS // max(1, B * C * W))
    for first in range(0, H, rows):
        band = slice(first, min(first + rows, H))
        for n in range(M * M):
            yield band, n // M, n % M, n
