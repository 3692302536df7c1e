"""The low-resolution pixels to which the pixels of an axis attend."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from resfu.ops.grid import central_cell
from resfu.ops.kept import kept


@dataclass(frozen=True)
class Axis:
    """The windows of an axis with P pixels and p low-resolution pixels.

    A low-resolution pixel is called a cell here. The pixels whose centres lie in the same cell share a window.

    Attributes:
        first: [p + 1], the first pixel of each cell, and P at the end.
        window: [p, L], the low-resolution pixels in each cell's window.
        reach: how far windows extend from their cell, before they are moved inwards.
        slots: m, the largest number of pixels in a cell.
        pixel: [p m], the pixel in each slot; a cell with fewer than m pixels repeats its last one. None if all cells
            have m pixels.
        slot: [P], the slot of each pixel; None if all cells have m pixels.
        seen: [P, L], which pixels of its window each pixel attends to; None if to all.
    """

    first: tuple[int, ...]
    window: Tensor
    reach: int
    slots: int
    pixel: Tensor | None
    slot: Tensor | None
    seen: Tensor | None = None


@kept()
def shifted(P: int, p: int, K: int) -> Axis:
    """Windows of K (or p, if smaller) pixels around each pixel's own cell, moved inwards at the borders."""
    return _axis(P, p, min(K, p), K // 2)


@kept()
def share(P: int, p: int, ratio: float) -> Axis:
    """Windows that extend by `ratio` times the axis to both sides of each pixel's centre; see `seen_cells`."""
    first, last = seen_cells(P, p, ratio)
    cell = central_cell(P, p, "cpu")
    reach = int(torch.maximum(cell - first, last - 1 - cell).max())
    axis = _axis(P, p, min(2 * reach + 1, p), reach)
    place = axis.window[cell]
    seen = (place >= first[:, None]) & (place < last[:, None])
    return replace(axis, seen=None if seen.all() else seen)


def seen_cells(P: int, p: int, ratio: float, device: torch.device | str = "cpu") -> Tensor:
    """The first low-resolution pixel of each pixel's window, and one past the last, [2, P]; in fp32 as published."""
    if ratio <= 0:
        last = torch.full((P,), p, device=device)
        return torch.stack([torch.zeros_like(last), last])
    u = (torch.arange(P, device=device, dtype=torch.float32) + 0.5) / P
    first = ((u - ratio).clamp(min=0) * p).floor()
    return torch.stack([first, ((u + ratio).clamp(max=1) * p).ceil()]).long()


def _axis(P: int, p: int, length: int, reach: int) -> Axis:
    cell = central_cell(P, p, "cpu")
    count = torch.bincount(cell, minlength=p)
    first = torch.cat([count.new_zeros(1), count.cumsum(0)])
    start = (torch.arange(p, device="cpu") - reach).clamp(0, p - length)
    window = start[:, None] + torch.arange(length, device="cpu")
    slots = int(count.max())
    if bool((count == slots).all()):
        return Axis(tuple(first.tolist()), window, reach, slots, None, None)
    pixel = (first[:-1, None] + torch.arange(slots, device="cpu")).minimum(first[1:, None] - 1).flatten()
    slot = cell * slots + torch.arange(P, device="cpu") - first[cell]
    return Axis(tuple(first.tolist()), window, reach, slots, pixel, slot)
