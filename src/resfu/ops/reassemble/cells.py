"""Which high-resolution pixels share which low-resolution window.

All HR pixels between the same four LR centres ("fine"), or inside the same LR pixel ("coarse"), see the same M x M LR
vectors: M = K + 1 or K. Such a set of pixels is a cell, and reassembly over it is one small matrix product.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from resfu.ops.grid import containing_cell, lr_cell


@dataclass(frozen=True)
class Cells:
    """The pixels of an H x W image, cell by cell.

    Attributes:
        rows: (first row of the LR window in the padded map, first HR row, one past the last) of every row of cells.
        columns: number of cells in a row, n. Their windows start at padded columns left .. left + n - 1.
        left: 0, or 1 where "fine" cells of ratio 1 leave out the half cell at the border.
        slots: pixels that a cell can hold along the row, m. Cells with fewer leave slots empty.
        pixel: [n * m] HR column in each slot; empty slots repeat a neighbour.
        slot: [W] slot of each HR column.
        empty: [n * m] which slots hold no pixel; None when all do.
    """

    rows: tuple[tuple[int, int, int], ...]
    columns: int
    left: int
    slots: int
    pixel: Tensor
    slot: Tensor
    empty: Tensor | None

    def gather(self, x: Tensor, dim: int) -> Tensor:
        """Put the columns of x (axis `dim`, W long) into slots: n * m long, contiguous. Empty slots become 0."""
        x = x.index_select(dim, self.pixel)
        if self.empty is not None:
            shape = [1] * x.dim()
            shape[dim] = -1
            x.masked_fill_(self.empty.view(shape), 0)
        return x

    def scatter(self, x: Tensor, dim: int) -> Tensor:
        """Take the columns of x back out of their slots: W long."""
        first = int(self.slot[0])
        if int(self.slot[-1]) - first == len(self.slot) - 1:  # no gaps, as for whole ratios: a view does
            return x.narrow(dim, first, len(self.slot))
        return x.index_select(dim, self.slot)


@lru_cache(maxsize=64)
def cells(H: int, W: int, h: int, w: int, neighbours: str) -> Cells:
    """The cells of an H x W image over an h x w map."""
    row, column = _start(H, h, neighbours), _start(W, w, neighbours)
    first = [0] + [p for p in range(1, H) if row[p] != row[p - 1]] + [H]
    rows = tuple((int(row[p]), p, q) for p, q in pairwise(first))

    count = torch.bincount(column - column[0])
    n, m = len(count), int(count.max())
    position = torch.cat([torch.arange(int(c)) for c in count])
    position[: int(count[0])] += m - int(count[0])  # a short first cell fills its last slots: whole ratios leave no gap
    slot = (column - column[0]) * m + position
    pixel = torch.zeros(n * m, dtype=torch.long)
    pixel[slot] = torch.arange(W)
    empty = torch.ones(n * m, dtype=torch.bool)
    empty[slot] = False
    return Cells(rows, n, int(column[0]), m, pixel, slot, empty if bool(empty.any()) else None)


def _start(P: int, p: int, neighbours: str) -> Tensor:
    return lr_cell(P, p)[0] + 1 if neighbours == "fine" else containing_cell(P, p)
