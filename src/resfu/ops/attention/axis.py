"""Which low-resolution pixels the pixels of an axis attend to."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from resfu.ops.grid import central_cell
from resfu.ops.kept import kept


@dataclass(frozen=True)
class Axis:
    """P pixels over p: those whose centre lies in one low-resolution pixel, a cell, share a window.

    Attributes:
        first: [p + 1] first pixel of each cell, and P.
        window: [p, L] the low-resolution pixels in each cell's window.
        reach: how far windows go from a cell, before they are moved.
        slots: the largest number of pixels of a cell, m.
        pixel: [p m] the pixel in each slot; a cell with fewer repeats its last one. None where cells have m pixels.
        slot: [P] where each pixel is among them; None likewise.
        seen: [P, L] which of its window each pixel sees; None for all of it.
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
    """Windows of K around each pixel's own, moved inwards at the borders; of fewer where the map has fewer."""
    return _axis(P, p, min(K, p), K // 2)


@kept()
def share(P: int, p: int, ratio: float) -> Axis:
    """Windows that reach so far, as a share of the axis, from each pixel's centre; see `seen_cells`."""
    first, last = seen_cells(P, p, ratio)
    cell = central_cell(P, p, "cpu")
    reach = int(torch.maximum(cell - first, last - 1 - cell).max())
    axis = _axis(P, p, min(2 * reach + 1, p), reach)
    place = axis.window[cell]
    seen = (place >= first[:, None]) & (place < last[:, None])
    return replace(axis, seen=None if seen.all() else seen)


def seen_cells(P: int, p: int, ratio: float, device: torch.device | str = "cpu") -> Tensor:
    """The first low-resolution pixel that each pixel sees, and one past the last, [2, P]; in fp32 as published."""
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
