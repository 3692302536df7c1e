"""Rows of tiles that are reassembled at once.

Rows of tiles that are alike follow one another in the image, and a block is a part of it. At a ratio that is not whole
their rows of cells differ in height. Where so few in a row are alike that the calls cost more than the arithmetic, all
are given the height of the tallest, and rows without pixels repeat others.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from resfu.ops.reassembly.workspace import Workspace

_BLOCK_ELEMENTS = 1 << 20  # of the output: 4 MB in fp32
_FEW = 4  # rows of tiles that make a block worth a copy of its pixels
_MORE = 3  # blocks than needed, which a whole ratio has: cells at the borders are shorter


class Row(NamedTuple):
    """A row of tiles.

    Attributes:
        top: first row of their LR windows, in the padded map.
        first: their first HR row.
        ends: one past the last HR row of each row of cells in them, counted from `first`.
    """

    top: int
    first: int
    ends: tuple[int, ...]


class Block(NamedTuple):
    """R consecutive rows of tiles, alike but for their place.

    Attributes:
        top: first row of the first LR window, in the padded map.
        rows: the HR rows.
        number: R.
        ends: as in `Row`; the last one is the height of a tile in HR rows, a.
        pixel: [R a] the HR row in each row of the tiles, some of them twice; None where they are `rows`.
        slot: [number of HR rows] the row of the tiles in which each of them lies.
        empty: [R a] which rows of the tiles repeat another.
    """

    top: int
    rows: slice
    number: int
    ends: tuple[int, ...]
    pixel: Tensor | None = None
    slot: Tensor | None = None
    empty: Tensor | None = None

    def parts(self) -> list[tuple[int, slice]]:
        """(place of the row of cells in its tile, its HR rows there)."""
        return [(i, slice(*pair)) for i, pair in enumerate(pairwise((0, *self.ends)))]

    def read(self, x: Tensor, name: str, space: Workspace, clear: bool = False) -> Tensor:
        """The rows of x [C, H, W] in the tiles, [C, R a, W]. With `clear` those that repeat others are 0."""
        if self.pixel is None:
            return x[:, self.rows]
        read = space.take_like(name, x, 1, len(self.pixel))
        torch.index_select(x, 1, self.pixel, out=read)
        if clear:
            read.masked_fill_(self.empty[:, None], 0)  # pyright: ignore[reportOptionalSubscript]
        return read

    def target(self, out: Tensor, space: Workspace) -> Tensor:
        """Where to write the rows of the tiles, [C, R a, W], for an output [C, H, W]: see `finish`."""
        return out[:, self.rows] if self.pixel is None else space.take_like("target", out, 1, len(self.pixel))

    def finish(self, target: Tensor, out: Tensor) -> None:
        """Bring what was written to `target` into the output."""
        if self.slot is not None:
            torch.index_select(target, 1, self.slot, out=out[:, self.rows])


def blocks_of(rows: Sequence[Row], step: int, width: int) -> Iterator[Block]:
    """Blocks of about a million elements.

    Args:
        rows: of tiles, all of an image.
        step: LR rows from one to the next.
        width: elements of an HR row, slots without pixels included.
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
    """One block of rows of tiles that differ in height."""
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
