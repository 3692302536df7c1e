"""Which high-resolution pixels share which low-resolution window.

All HR pixels between the same four LR centres ("fine"), or inside the same LR pixel ("coarse"), see the same M x M LR
vectors: M = K + 1 or K. Such a set of pixels is a cell, and reassembly over it is one small matrix product.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from resfu.ops.grid import containing_cell, lr_cell

_BLOCK_ELEMENTS = 1 << 20  # of the output: 4 MB in fp32


class Block(NamedTuple):
    """Consecutive rows of cells, equally high.

    Attributes:
        top: first row of the first LR window, in the padded map; that of the next row of cells is one further.
        rows: the HR rows.
        cell_rows: number of rows of cells, R.
        height: HR rows in each, a.
    """

    top: int
    rows: slice
    cell_rows: int
    height: int


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
        empty: [n * m] which slots hold no pixel.
        whole: whether the columns fill their slots without a gap, as for whole ratios.
    """

    rows: tuple[tuple[int, int, int], ...]
    columns: int
    left: int
    slots: int
    pixel: Tensor
    slot: Tensor
    empty: Tensor
    whole: bool

    def blocks(self, channels: int) -> Iterator[Block]:
        """All rows of cells, in blocks whose pixels fit the cache at so many channels."""
        place = 0
        while place < len(self.rows):
            top, first, last = self.rows[place]
            height, count = last - first, 1
            most = max(1, _BLOCK_ELEMENTS // (self.columns * self.slots * height * channels))
            for n, (next_top, p, q) in enumerate(self.rows[place + 1 : place + most], 1):
                if q - p != height or next_top != top + n:
                    break
                count += 1
            yield Block(top, slice(first, first + count * height), count, height)
            place += count

    def scratch(self, like: Tensor, channels: int) -> Tensor:
        """Room for the pixels of any block."""
        most = max(block.cell_rows * block.height for block in self.blocks(channels))
        return like.new_empty(most * self.columns * self.slots * channels)

    def gather(self, x: Tensor, out: Tensor) -> None:
        """Write the columns x [..., W] to their slots, out [..., n, m]. Empty slots become 0."""
        if not self.whole:
            out.copy_(x.index_select(-1, self.pixel).masked_fill_(self.empty, 0).unflatten(-1, out.shape[-2:]))
            return
        for columns, slots in self._parts(x, out):
            slots.copy_(columns)
        out[..., 0, : int(self.slot[0])] = 0
        out[..., -1, int(self.slot[-1]) + 1 - (self.columns - 1) * self.slots :] = 0

    def scatter(self, x: Tensor, out: Tensor) -> None:
        """Write the slots x [..., n, m] to the columns they stand for, out [..., W]."""
        if not self.whole:
            out.copy_(x.flatten(-2).index_select(-1, self.slot))
            return
        for columns, slots in self._parts(out, x):
            columns.copy_(slots)

    def _parts(self, columns: Tensor, slots: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Views of columns [..., W] and slots [..., n, m] that stand for each other: whole cells, then the borders'."""
        m, W, first = self.slots, columns.shape[-1], int(self.slot[0])
        head = min(m - first, W)
        count = (W - head) // m
        tail = head + count * m
        yield columns[..., head:tail].unflatten(-1, (count, m)), slots[..., 1 : 1 + count, :]
        yield columns[..., :head], slots[..., 0, first : first + head]
        if tail < W:
            yield columns[..., tail:], slots[..., 1 + count, : W - tail]


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
    whole = int(slot[-1] - slot[0]) == W - 1
    return Cells(rows, n, int(column[0]), m, pixel, slot, empty, whole)


def _start(P: int, p: int, neighbours: str) -> Tensor:
    return lr_cell(P, p)[0] + 1 if neighbours == "fine" else containing_cell(P, p)
