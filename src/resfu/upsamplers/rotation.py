"""Rotary position encoding: rotation of pairs of channels by angles that depend on the pixel's position."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def rotary_angles(P: int, width: int, base: float, rescale: float | Tensor, device: torch.device) -> Tensor:
    """Rotation angles for an axis of P pixels, whose centres lie between -1 and 1: [width / 4, P] in fp64.

    Row f has the period base^(4 f / width); `rescale` multiplies the coordinates.
    """
    coordinate = (2 * torch.arange(P, device=device, dtype=torch.float64) + 1) / P - 1
    period = base ** (torch.arange(width // 4, device=device, dtype=torch.float64) * 4 / width)
    return 2 * math.pi * rescale * coordinate / period[:, None]


def rotate(
    x: Float[Tensor, "B D H W"], heads: int, rows: Float[Tensor, "F H"], columns: Float[Tensor, "F W"]
) -> Float[Tensor, "B D H W"]:
    """Rotate the pairs of channels (i, i + d / 2) of every head of d = 4 F channels.

    The first F pairs of a head rotate by the angles of the pixel's row, the other F by those of its column.
    """
    a, b = x.unflatten(1, (heads, 2, 2, rows.shape[0])).unbind(2)  # [B, heads, row or column, F, H, W]
    turned = []
    for n, angle in enumerate((rows[:, :, None], columns[:, None, :])):
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        turned.append((a[:, :, n] * cos - b[:, :, n] * sin, b[:, :, n] * cos + a[:, :, n] * sin))
    first, second = (torch.cat(pair, 2) for pair in zip(*turned, strict=True))
    return torch.cat([first, second], 2).flatten(1, 2)
