"""Rows of the interpolation that an upsampler starts from."""

import torch
from torch import Tensor

from resfu.deploy.forms.base import Rows
from resfu.ops.precision import at_least_fp32, without_autocast
from resfu.upsamplers.starts import interpolated

_TAPS = {"nearest": 1, "nearest-exact": 1, "bilinear": 2, "bicubic": 4}  # input pixels of an output pixel, on an axis
_MARKS = 8  # more than twice the largest distance between an output pixel and a tap of it


def interpolated_rows(features: Tensor, band: Rows, size: tuple[int, int], start: str) -> Tensor:
    """Rows (first, one past the last) of `upsamplers.starts.interpolated`: [B, C, h, w] -> [B, C, rows, W]."""
    x = at_least_fp32(features)
    taps, weights = _row_taps(size[0], x, band, start)
    top, bottom = int(taps.min()), int(taps.max()) + 1
    with without_autocast(x):
        x = interpolated(x[:, :, top:bottom], (bottom - top, size[1]), start)  # along the columns alone
        out = torch.zeros_like(x[:, :, :1]).repeat(1, 1, band[1] - band[0], 1)
        for n in range(len(taps)):
            out.addcmul_(x.index_select(2, taps[n] - top), weights[n, :, None])
    return out.to(features.dtype)


def _row_taps(P: int, x: Tensor, band: Rows, start: str) -> tuple[Tensor, Tensor]:
    """The input rows that each output row reads, and their weights: two tensors [taps, rows].

    PyTorch gives the weights itself, with its rounding: it interpolates `_MARKS` columns, the n-th of which is 1 at
    every `_MARKS`-th row from the n-th on. The taps of an output row are in different columns.
    """
    p, (mode, corners, _) = x.shape[-2], start.partition("-corners")
    count, marks = min(_TAPS[mode], p), min(_MARKS, p)
    column = torch.arange(marks, device=x.device)[:, None]
    marked = (torch.arange(p, device=x.device) % marks == column).to(x.dtype)
    weights = interpolated(marked[None, :, :, None], (P, 1), start)[0, :, band[0] : band[1], 0]
    rows = torch.arange(band[0], band[1], dtype=torch.float64, device=x.device)
    centre = rows * ((p - 1) / max(P - 1, 1)) if corners else (rows + 0.5) * (p / P) - 0.5
    nearest = column + marks * ((centre - column) / marks).round().long() if p > marks else column.expand(-1, len(rows))
    largest = weights.abs().topk(count, 0).indices
    taps, weights = nearest.gather(0, largest), weights.gather(0, largest)
    return torch.where(weights == 0, taps[:1], taps), weights
