"""Blocks: consecutive rows of tiles that are reassembled at once. See `tiles.py` for tiles and cells.

Usually a block consists of rows of tiles with the same shape. At a ratio that is not whole, rows of cells differ in
height. If blocks of equal rows would be so small that the calls cost more than the arithmetic, all rows of cells get
the height of the tallest, and rows without pixels repeat others.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from resfu.ops.reassembly.workspace import Workspace

_BLOCK_ELEMENTS = 1 << 20  # elements of the output in a block: 4 MB in fp32
_FEW = 4  # number of rows of tiles from which a block is worth a copy of its pixels
_MORE = 3  # additional blocks that a whole ratio has too, because cells at the borders are shorter


class Row(NamedTuple):
    """A row of tiles.

    Attributes:
        top: first row of the tiles' LR windows, in the padded map.
        first: first HR row of the tiles.
        ends: for each row of cells in the tiles, one past its last HR row, counted from `first`.
    """

    top: int
    first: int
    ends: tuple[int, ...]


class Block(NamedTuple):
    """R consecutive rows of tiles with the same shape.

    Attributes:
        top: first row of the first LR window, in the padded map.
        rows: the HR rows of the block.
        number: R.
        ends: as in `Row`; the last one is the height of a tile in HR rows, a.
        pixel: [R a], the HR row for each row of the tiles; some occur twice. None if they are exactly `rows`.
        slot: [number of HR rows], the row of the tiles in which each HR row lies.
        empty: [R a], which rows of the tiles repeat another.
    """

    top: int
    rows: slice
    number: int
    ends: tuple[int, ...]
    pixel: Tensor | None = None
    slot: Tensor | None = None
    empty: Tensor | None = None

    def parts(self) -> list[tuple[int, slice]]:
        """For each row of cells in a tile: its index, and its HR rows in the tile."""
        return [(i, slice(*pair)) for i, pair in enumerate(pairwise((0, *self.ends)))]

    def read(self, x: Tensor, name: str, space: Workspace, clear: bool = False) -> Tensor:
        """The block's rows of x [C, H, W], as rows of the tiles [C, R a, W]; `clear` sets repeated rows to 0."""
        if self.pixel is None:
            return x[:, self.rows]
        read = space.take_like(name, x, 1, len(self.pixel))
        torch.index_select(x, 1, self.pixel, out=read)
        if clear:
            read.masked_fill_(self.empty[:, None], 0)  # pyright: ignore[reportOptionalSubscript]
        return read

    def target(self, out: Tensor, space: Workspace) -> Tensor:
        """The tensor [C, R a, W] into which to write the rows of the tiles, before `finish` copies them to `out`."""
        return out[:, self.rows] if self.pixel is None else space.take_like("target", out, 1, len(self.pixel))

    def finish(self, target: Tensor, out: Tensor) -> None:
        """Copy the rows that were written to `target` into the output [C, H, W]."""
        if self.slot is not None:
            torch.index_select(target, 1, self.slot, out=out[:, self.rows])


def blocks_of(rows: Sequence[Row], step: int, width: int) -> Iterator[Block]:
    """Divide the rows of tiles of an image into blocks of about a million elements.

    Args:
        rows: all rows of tiles of the image.
        step: number of LR rows from one row of tiles to the next.
        width: number of elements in an HR row, including slots without pixels.
    """
    alike = list(_alike(rows, step, width))
    tallest = max(b - a for row in rows for a, b in pairwise((0, *row.ends)))
    most = _BLOCK_ELEMENTS // (width * tallest * step)
    if most < _FEW or len(alike) <= -(-len(rows) // most) + _MORE:
        yield from alike
        return
    for first in range(0, len(rows), most):
        yield _levelled(rows[first : first + most], step, tallest)


def _alike(rows: Sequence[Row], step: int, width: int) -> Iterator[Block]:
    place = 0
    while place < len(rows):
        top, first, ends = rows[place]
        most = max(1, _BLOCK_ELEMENTS // (width * ends[-1]))
        count = 1
        for row in rows[place + 1 : place + most]:
            if row.ends != ends or row.top != top + count * step:
                break
            count += 1
        yield Block(top, slice(first, first + count * ends[-1]), count, ends)
        place += count


def _levelled(rows: Sequence[Row], step: int, tallest: int) -> Block:
    """One block from rows of tiles that differ in height."""
    pixel, slot, empty = [], [], []
    for row in rows:
        cells = list(pairwise((0, *row.ends)))
        cells += [(row.ends[-1], row.ends[-1])] * (step - len(cells))  # beyond the map
        for start, end in cells:
            for n in range(tallest):
                if start + n < end:
                    slot.append(len(pixel))
                empty.append(start + n >= end)
                pixel.append(row.first + min(start + n, end - 1))
    columns = (torch.tensor(values, device="cpu") for values in (pixel, slot, empty))
    height = slice(rows[0].first, rows[-1].first + rows[-1].ends[-1])
    return Block(rows[0].top, height, len(rows), tuple(tallest * (n + 1) for n in range(step)), *columns)
