"""Rows of the interpolation that an upsampler starts from."""

import torch
from torch import Tensor

from resfu.deploy.forms.base import Rows
from resfu.ops.precision import at_least_fp32, without_autocast
from resfu.upsamplers.starts import interpolated


def interpolated_rows(features: Tensor, band: Rows, size: tuple[int, int], start: str) -> Tensor:
    """Rows (first, one past the last) of `upsamplers.starts.interpolated`: [B, C, h, w] -> [B, C, rows, W]."""
    x = at_least_fp32(features)
    (H, W), (h, w) = size, features.shape[-2:]
    down, across = (_matrix(P, p, start, x) for P, p in ((H, h), (W, w)))
    down = down[slice(*band)]
    read = (down != 0).any(0).nonzero()[:, 0]
    top, bottom = int(read[0]), int(read[-1]) + 1
    with without_autocast(x):
        x = x[:, :, top:bottom] @ across.mT  # along the columns first, which is less work for few rows
        return (down[:, top:bottom] @ x).to(features.dtype)


def _matrix(P: int, p: int, start: str, like: Tensor) -> Tensor:
    """The interpolation along an axis as a matrix [P, p]; interpolations treat one axis after the other."""
    eye = torch.eye(p, dtype=like.dtype, device=like.device)
    return interpolated(eye[None, :, :, None], (P, 1), start)[0, :, :, 0].mT
