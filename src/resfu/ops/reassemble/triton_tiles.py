"""How the pixels of an image are cut into tiles for the kernels of `triton.py`, and the tables those read."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from resfu.ops.grid import lr_cell
from resfu.ops.reassemble.tiles import window_start

_LAST = ((4, 4), (4, 8), (8, 8), (8, 16))  # tiles that may be chosen where the channels lie together in memory
_WIDE = ((1, 16), (2, 16), (4, 16), (8, 16))  # and where the columns do: 16 of them fill a sector of memory
OPERAND = 32 << 10  # bytes of a factor of a product: both, and their copies, share a multiprocessor's 100 to 227 kB
_PIXELS = 512  # how much a large tile is worth, in taps: its matrix of weights is built less often


class Tiling(NamedTuple):
    """Tiles of `rows` x `columns` pixels, powers of two.

    Attributes:
        rows: of a tile.
        columns: of a tile.
        origin: (row, column) where the first tile begins: 0, or before the image where cells then end with tiles.
        grid: number of tiles (down, across).
        span: (rows, columns) of the low-resolution window that holds those of all pixels of any tile.
    """

    rows: int
    columns: int
    origin: tuple[int, int]
    grid: tuple[int, int]
    span: tuple[int, int]

    @property
    def number(self) -> int:
        """Tiles of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def taps(self) -> int:
        """Size of the window, as a power of two that a product of matrices takes."""
        return max(16, 1 << (self.span[0] * self.span[1] - 1).bit_length())


@lru_cache(maxsize=256)
def tiling(H: int, W: int, h: int, w: int, M: int, neighbours: str, channels_last: bool, size: int) -> Tiling:
    """The cheapest tiles for an H x W image over an h x w map with M x M windows, in numbers of so many bytes."""
    rows, columns = window_start(H, h, neighbours).tolist(), window_start(W, w, neighbours).tolist()
    candidates = []
    for height, width in _LAST if channels_last else _WIDE:
        (top, down, span_y), (left, across, span_x) = _cut(rows, height, M), _cut(columns, width, M)
        candidates.append(Tiling(height, width, (top, left), (down, across), (span_y, span_x)))

    def cost(tile: Tiling) -> tuple[bool, int]:
        pixels = tile.rows * tile.columns
        return pixels * tile.taps * size > OPERAND, tile.taps + _PIXELS // pixels

    return min(candidates, key=cost)


def _cut(start: list[int], size: int, M: int) -> tuple[int, int, int]:
    """Origin, number and window length of tiles of that many pixels along an axis."""
    first_cell = next((p for p, s in enumerate(start) if s != start[0]), len(start))
    cuts = []
    for origin in sorted({0, -((size - first_cell) % size)}, reverse=True):
        tiles = range(origin, len(start), size)
        ends = ((max(t, 0), min(t + size, len(start)) - 1) for t in tiles)
        cuts.append((max(start[last] - start[first] for first, last in ends) + M, len(tiles), origin))
    span, number, origin = min(cuts, key=lambda cut: (cut[0], cut[1]))
    return origin, number, span


@lru_cache(maxsize=64)
def starts(P: int, p: int, neighbours: str, device: torch.device) -> Tensor:
    """Where the window of each of P pixels begins in the padded map of p, [P]."""
    return window_start(P, p, neighbours).to(device)


@lru_cache(maxsize=64)
def first_pixel(P: int, p: int, neighbours: str, device: torch.device, size: int) -> Tensor:
    """The first pixel whose window begins at 0, 1, ..., size or later, [size + 1]."""
    return torch.searchsorted(window_start(P, p, neighbours), torch.arange(size + 1, device="cpu")).to(device)


@lru_cache(maxsize=64)
def fractions(P: int, p: int, device: torch.device) -> Tensor:
    """How far each pixel lies between the low-resolution centres around it, [P]."""
    return lr_cell(P, p, device)[1]
