"""Grouping of the pixels of an axis by cells, with tensor operations that other runtimes have.

A cell is the interval between two low-resolution centres ("fine"), or one low-resolution pixel ("coarse"). At a whole
ratio r all cells have r pixels, so a reshape groups them; "fine" cells begin r // 2 pixels before the image. At other
ratios every cell has as many places as the largest cell has pixels, and the pixels are gathered by their indices.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.grid import containing_cell, lr_cell
from resfu.ops.portable import whole_ratio


class Cells:
    """The cells of an axis of P pixels and p low-resolution pixels.

    Args:
        P: number of pixels; may be symbolic.
        p: number of low-resolution pixels; may be symbolic.
        neighbours: "fine", "coarse" or "dense".

    Attributes:
        number: number of cells.
        pixels: number of places in a cell.
    """

    def __init__(self, P: int, p: int, neighbours: str) -> None:
        self._size, self._low, self._fine = P, p, neighbours == "fine"
        self._ratio = whole_ratio(P, p)
        self.number = p + 1 if self._fine else p
        self.pixels = (P + p - 1) // p if self._ratio is None else self._ratio

    def gather(self, x: Tensor, dim: int) -> Tensor:
        """Arrange the pixels of an axis in number * pixels places, cell by cell."""
        if self._ratio is None:
            first = self._first_pixel(torch.arange(self.number, device=x.device))
            place = first[:, None] + torch.arange(self.pixels, device=x.device)
            return x.index_select(dim, place.clamp(max=self._size - 1).flatten())
        if self._fine:
            before, after = self._ratio - self._ratio // 2, self._ratio // 2
            return F.pad(x, (0, 0) * (x.dim() - 1 - dim) + (before, after))
        return x

    def scatter(self, x: Tensor, dim: int) -> Tensor:
        """The inverse of `gather`: from the cells' places back to P pixels."""
        if self._ratio is None:
            pixel = torch.arange(self._size, device=x.device)
            if self._fine:
                cell = lr_cell(self._size, self._low, x.device)[0] + 1
            else:
                cell = containing_cell(self._size, self._low, x.device)
            return x.index_select(dim, cell * self.pixels + pixel - self._first_pixel(cell))
        return x.narrow(dim, self._ratio - self._ratio // 2, self._size) if self._fine else x

    def _first_pixel(self, cell: Tensor) -> Tensor:
        """The index of a cell's first pixel; 0 for the "fine" cell before the first low-resolution centre."""
        P, p = self._size, self._low
        if self._fine:
            return torch.div((2 * cell - 1) * P + p - 1, 2 * p, rounding_mode="floor").clamp(min=0)
        return torch.div(cell * P + p - 1, p, rounding_mode="floor")


def split(x: Tensor, rows: Cells, columns: Cells) -> Tensor:
    """Group pixels by cells: [B, N, H, W] -> [B, N, rows, a, columns, b], with a x b pixels in a cell."""
    x = columns.gather(rows.gather(x, 2), 3)
    return x.reshape(x.shape[0], x.shape[1], rows.number, rows.pixels, columns.number, columns.pixels)


def join(x: Tensor, rows: Cells, columns: Cells) -> Tensor:
    """The inverse of `split`."""
    x = x.reshape(x.shape[0], x.shape[1], rows.number * rows.pixels, columns.number * columns.pixels)
    return columns.scatter(rows.scatter(x, 2), 3)
