"""Division of an image's pixels into tiles, and of channels into blocks, for the kernels of `triton.py`.

The matrices of a program lie in the shared memory of its multiprocessor. A program can use 99 kB of it on sm_86 and
sm_89, and 227 kB on sm_90. With 16 channels, the smallest block, up to 512 taps fit in fp32 (K = 15) and 256 in fp64
(K = 9, or 11 for channels-last). Twice as many take 194 kB and need sm_90.
"""

from functools import lru_cache
from typing import NamedTuple

from resfu.ops.reassembly.tiles import window_start
from resfu.ops.tuned import tuned

_LAST = ((4, 4), (4, 8), (8, 8), (8, 16))  # possible tiles for channels-last maps
_WIDE = ((1, 16), (2, 16), (4, 16), (8, 16))  # possible tiles for contiguous maps: 16 columns fill a memory sector
_ROOM = 96 << 10  # bytes for a program's matrices; the compiler needs the rest
_PIXELS = 512  # bonus of large tiles in the cost, in taps: they build the matrix of weights less often


class Tiling(NamedTuple):
    """Tiles of `rows` x `columns` pixels, powers of two.

    Attributes:
        rows: of a tile.
        columns: of a tile.
        origin: (row, column) where the first tile begins: 0, or negative so that cells end where tiles end.
        grid: number of tiles (down, across).
        span: (rows, columns) of a low-resolution window that contains the windows of all pixels of any tile.
    """

    rows: int
    columns: int
    origin: tuple[int, int]
    grid: tuple[int, int]
    span: tuple[int, int]

    @property
    def number(self) -> int:
        """Number of tiles of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def pixels(self) -> int:
        """Number of pixels of a tile."""
        return self.rows * self.columns

    @property
    def taps(self) -> int:
        """Size of the window, rounded up to a power of two from 16, as the matrix product needs it."""
        return max(16, 1 << (self.span[0] * self.span[1] - 1).bit_length())

    def constants(self) -> dict[str, int]:
        """The compile-time constants of the kernels."""
        (SPAN_Y, SPAN_X), TAPS = self.span, self.taps
        return {"ROWS": self.rows, "COLUMNS": self.columns, "SPAN_Y": SPAN_Y, "SPAN_X": SPAN_X, "TAPS": TAPS}


def tiling(H: int, W: int, h: int, w: int, M: int, neighbours: str, channels_last: bool, size: int) -> Tiling:
    """Tiles for an H x W image and an h x w map with M x M windows; `size` is the number of bytes of an element.

    The tiles that were measured to be fastest (see `tuned`), or else the cheapest by their number of taps.
    """
    choice = tuned("window_sum", M, neighbours, "last" if channels_last else "first", size)
    shape = (choice["rows"], choice["columns"]) if choice else None
    return _tiling(H, W, h, w, M, neighbours, channels_last, size, shape)


def shapes(channels_last: bool) -> tuple[tuple[int, int], ...]:
    """The possible (rows, columns) of tiles, for channels-last or for contiguous maps."""
    return _LAST if channels_last else _WIDE


@lru_cache(maxsize=256)
def _tiling(
    H: int, W: int, h: int, w: int, M: int, neighbours: str, channels_last: bool, size: int, shape: tuple | None
) -> Tiling:
    rows, columns = window_start(H, h, neighbours).tolist(), window_start(W, w, neighbours).tolist()
    candidates = []
    for height, width in [shape] if shape else shapes(channels_last):
        (top, down, span_y), (left, across, span_x) = _cut(rows, height, M), _cut(columns, width, M)
        candidates.append(Tiling(height, width, (top, left), (down, across), (span_y, span_x)))

    def cost(tile: Tiling) -> tuple[int, int]:
        too_much = max(0, tile.pixels * tile.taps * size - _ROOM // 3)  # of the weights
        return too_much, tile.taps + _PIXELS // tile.pixels

    return min(candidates, key=cost)


def _cut(start: list[int], size: int, M: int) -> tuple[int, int, int]:
    """Origin, number and window length of tiles of `size` pixels along an axis."""
    first_cell = next((p for p, s in enumerate(start) if s != start[0]), len(start))
    cuts = []
    for origin in sorted({0, -((size - first_cell) % size)}, reverse=True):
        tiles = range(origin, len(start), size)
        ends = ((max(t, 0), min(t + size, len(start)) - 1) for t in tiles)
        cuts.append((max(start[last] - start[first] for first, last in ends) + M, len(tiles), origin))
    span, number, origin = min(cuts, key=lambda cut: (cut[0], cut[1]))
    return origin, number, span


def summed_channels(width: int, pixels: int, taps: int, size: int) -> int:
    """Number of channels in a block of [pixels, taps] @ [taps, channels], with elements of `size` bytes.

    Shared memory holds the weights, the block, a copy of the next block, and the product.
    """
    return _block(width, pixels, (_ROOM // size - pixels * taps) // (2 * taps + pixels), 128)


def correlated_channels(width: int, pixels: int, taps: int, size: int) -> int:
    """Number of channels in a block of [pixels, channels] @ [channels, taps], with elements of `size` bytes.

    Shared memory holds two copies of both factors.
    """
    return _block(width, pixels, _ROOM // size // (2 * (pixels + taps)), 64)


def _block(width: int, pixels: int, fitting: int, most: int) -> int:
    """A power of two from 16, the smallest size for tensor cores, so that at most 8192 sums lie in the registers."""
    fitting = 1 << (max(16, fitting).bit_length() - 1)
    return max(16, min(1 << (width - 1).bit_length(), 8192 // pixels, fitting, most))
