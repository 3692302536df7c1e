"""Tiles: groups of high-resolution (HR) pixels that share a window of low-resolution (LR) pixels.

All HR pixels between the same four LR centres ("fine"), or inside the same LR pixel ("coarse"; for "central" their
centres decide), read the same M x M LR pixels, with M = K + 1 or K. Such a set of pixels is called a cell. At ratios
below 3 a cell is too small for an efficient matrix product. So 2 x 2 cells (4 x 4 at ratio 1) are grouped, and their
window grows by 1 (or 3). Such a group, or a single cell at ratios from 3, is called a tile. Reassembly of a tile is one
small matrix product.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.grid import central_cell, containing_cell, lr_cell
from resfu.ops.kept import kept
from resfu.ops.reassembly.blocks import Block, Row, blocks_of
from resfu.ops.reassembly.workspace import Workspace, by_stride


@dataclass(frozen=True)
class Tiles:
    """The pixels of an H x W image, tile by tile.

    Attributes:
        rows: all rows of tiles.
        step: number of LR (rows, columns) from one tile to the next, which is the number of cells in a tile.
        beyond: number of (rows, columns) by which the last windows reach beyond the padded map.
        columns: n, number of tiles in a row. Their windows start at columns left, left + step, ... of the padded map.
        left: 0, or 1 where "fine" cells at ratio 1 omit the half cell at the border.
        slots: m, number of pixels that a tile can hold along the row. Tiles with fewer pixels have empty slots.
        pixel: [n * m], HR column in each slot; empty slots repeat a pixel of the same cell, if it has any.
        slot: [W], slot of each HR column.
        empty: [n * m], which slots hold no pixel.
        whole: whether the columns fill their slots without gaps, as at whole ratios.
    """

    rows: tuple[Row, ...]
    step: tuple[int, int]
    beyond: tuple[int, int]
    columns: int
    left: int
    slots: int
    pixel: Tensor
    slot: Tensor
    empty: Tensor
    whole: bool
    _blocks: dict[int, tuple[Block, ...]] = field(default_factory=dict, repr=False, compare=False)

    def blocks(self, channels: int) -> tuple[Block, ...]:
        """All rows of tiles, in blocks whose pixels fit into the cache with this number of channels."""
        if channels not in self._blocks:
            width = self.columns * self.slots * channels
            self._blocks[channels] = tuple(blocks_of(self.rows, self.step[0], width))
        return self._blocks[channels]

    def slotted(self, x: Tensor, space: Workspace, clear: bool) -> Tensor:
        """Arrange the columns x [..., W] in their slots, [..., n, m]; without a copy if they fill all slots.

        With `clear`, empty slots are 0. Otherwise they may repeat a pixel of the same cell.
        """
        if self.whole:
            first, size = int(self.slot[0]), self.columns * self.slots
            if size > x.shape[-1]:
                x = F.pad(x, (first, size - first - x.shape[-1]))
        else:
            order = by_stride(x)
            size, dim = [x.shape[d] for d in order], order.index(x.dim() - 1)
            size[dim] = len(self.pixel)
            selected = space.take("slotted", tuple(size))
            torch.index_select(x.permute(order), dim, self.pixel, out=selected)
            x = selected.permute([order.index(d) for d in range(x.dim())])
            if clear:
                x.masked_fill_(self.empty, 0)
        return x.unflatten(-1, (self.columns, self.slots))

    def gather(self, x: Tensor, out: Tensor, space: Workspace) -> None:
        """Write the columns x [..., W] to their slots, out [..., n, m].

        Empty slots get finite values if the pixels of their cell are finite.
        """
        if not self.whole:
            out.copy_(self.slotted(x, space, clear=False))
            return
        for columns, slots in self._parts(x, out):
            slots.copy_(columns)
        out[..., 0, : int(self.slot[0])] = 0
        out[..., -1, int(self.slot[-1]) + 1 - (self.columns - 1) * self.slots :] = 0

    def scatter(self, x: Tensor, out: Tensor, space: Workspace) -> None:
        """Write the slots x [..., n, m] to their columns, out [..., W]."""
        if not self.whole:
            last, order = out.dim() - 1, by_stride(out)
            dim = order.index(last)
            slots = space.copy("slots", x.permute(*order[:dim], last, last + 1, *order[dim + 1 :]))
            torch.index_select(slots.flatten(dim, dim + 1), dim, self.slot, out=out.permute(order))
            return
        for columns, slots in self._parts(out, x):
            columns.copy_(slots)

    def _parts(self, columns: Tensor, slots: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of views of columns [..., W] and of their slots [..., n, m]: whole tiles first, then the borders'."""
        m, W, first = self.slots, columns.shape[-1], int(self.slot[0])
        head = min(m - first, W)
        count = (W - head) // m
        tail = head + count * m
        yield columns[..., head:tail].unflatten(-1, (count, m)), slots[..., 1 : 1 + count, :]
        yield columns[..., :head], slots[..., 0, first : first + head]
        if tail < W:
            yield columns[..., tail:], slots[..., 1 + count, : W - tail]


@kept()
def tiles(H: int, W: int, h: int, w: int, neighbours: str, part: tuple[int, int] | None = None) -> Tiles:
    """The tiles of an H x W image for an h x w LR map, or only of the image's rows `part`."""
    step = (_together(H, h), _together(W, w))
    row, column = window_start(H, h, neighbours), window_start(W, w, neighbours)
    row = (row if part is None else row[slice(*part)]).tolist()
    first = [0] + [p for p in range(1, len(row)) if row[p] != row[p - 1]] + [len(row)]
    rows = tuple(
        Row(row[first[i]], first[i], tuple(p - first[i] for p in first[i + 1 : i + 1 + step[0]]))
        for i in range(0, len(first) - 1, step[0])
    )

    count = torch.bincount(column - column[0])
    n, m = -(-len(count) // step[1]), int(count.max()) * step[1]
    position = torch.cat([torch.arange(int(c), device="cpu") for c in count])
    position[: int(count[0])] += int(count.max() - count[0])  # a short first cell fills its last slots
    slot = (column - column[0]) * int(count.max()) + position
    start = F.pad(count.cumsum(0) - count, (0, n * step[1] - len(count)), value=W - 1)  # the first pixel of each cell
    pixel = start.repeat_interleave(int(count.max()))
    pixel[slot] = torch.arange(W, device="cpu")
    empty = torch.ones(n * m, dtype=torch.bool, device="cpu")
    empty[slot] = False
    whole = int(slot[-1] - slot[0]) == W - 1
    beyond = (len(rows) * step[0] - (len(first) - 1), n * step[1] - len(count))
    return Tiles(rows, step, beyond, n, int(column[0]), m, pixel, slot, empty, whole)


def _together(P: int, p: int) -> int:
    """The number of cells along an axis of a tile, so that it is about four pixels long.

    At ratios that are not whole, cells differ in length. Pairs of cells differ less, so more rows of tiles are equal.
    """
    if P == p:
        return 4
    return 2 if P == 2 * p or (P < 3 * p and P % p) else 1


def window_start(P: int, p: int, neighbours: str) -> Tensor:
    """For each HR pixel of an axis, the first index of its window in the padded LR map (a CPU tensor)."""
    if neighbours == "fine":
        return lr_cell(P, p, "cpu")[0] + 1
    return central_cell(P, p, "cpu") if neighbours == "central" else containing_cell(P, p, "cpu")


def weights_format(neighbours: str) -> torch.memory_format:
    """The memory format of the result of `window_sum_to_weights`, as upsamplers with these neighbours need it."""
    return torch.contiguous_format if neighbours == "fine" else torch.channels_last
