"""The window sum and its adjoints on the CPU: one small matrix product per tile.

A block consists of R rows of n tiles each (see `tiles.py`). Its tensors, for one image, are:

    LR map [C, h, w]                    HR image [C, H, W]
    +--------------------------+        +--------+--------+--------+
    |     +----Mx----+         |        |<- m -->|<- m -->|        |  ^
    |     |  window  |         |        |  tile  |  tile  |  n of  |  | a rows
    |    My of a tile|         |  ==>   |        |        |  them  |  v
    |     +----------+         |        +--------+--------+--------+
    |  the next one starts     |        |        |        |        |  R of these
    |  `step` pixels on        |        +--------+--------+--------+
    +--------------------------+

    window   [R, n G, Mx My, C / G]   the LR window of each tile         (columns before rows)
    kernel   [R, n G, Mx My, a m]     weights of the window in a pixel   (0 outside the pixel's own M x M)
    pixels   [R, n G, C / G, a m]     the pixels of the image, tile by tile

    window_sum              pixels = window^T kernel
    window_sum_to_features  window = kernel pixels^T, added where windows overlap
    window_sum_to_weights   kernel = window pixels

A pixel's own window has M x M LR pixels, a tile's window Mx x My, where Mx and My are M + step - 1. G is the number of
groups, m the number of slots of a tile along the row, and a the height of a tile.
"""

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.layout import memory_format
from resfu.ops.reassembly.blocks import Block
from resfu.ops.reassembly.tiles import Tiles, tiles, weights_format
from resfu.ops.reassembly.workspace import Workspace


def window_sum(padded: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """`operators.window_sum` on the CPU."""
    return sum_on(tiles(*weights.shape[-2:], h, w, neighbours), padded, weights, M, groups)


def sum_on(grid: Tiles, padded: Tensor, weights: Tensor, M: int, groups: int) -> Tensor:
    """`window_sum` for the pixels of a grid, which may cover only some rows of the image."""
    (B, C), (H, W) = padded.shape[:2], weights.shape[-2:]
    width = C // groups
    out = torch.empty((B, C, H, W), dtype=padded.dtype, device="cpu", memory_format=memory_format(padded))
    channels_last = memory_format(padded) == torch.channels_last
    space = Workspace(padded)
    for b, block in product(range(B), grid.blocks(C)):
        tile = (block.number, grid.columns, groups)
        kernel = _kernel(weights[b], grid, block, groups, M, space)
        kernel = kernel.flatten(5).flatten(3, 4).flatten(1, 2)
        window = _window(padded[b], grid, block, groups, M, space)
        if channels_last:
            result = _matmul(kernel.mT, window, space).view(*tile, block.ends[-1], grid.slots, width)
            result = result.permute(2, 5, 0, 3, 1, 4)
        else:
            result = _matmul(window.mT, kernel, space).view(*tile, width, block.ends[-1], grid.slots)
            result = result.permute(2, 3, 0, 4, 1, 5)
        target = block.target(out[b], space)
        grid.scatter(result, _by_block(target, block, groups), space)
        block.finish(target, out[b])
    return out


def window_sum_to_features(
    grad: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int
) -> Tensor:
    """`operators.window_sum_to_features` on the CPU."""
    size = h + 2 * (M // 2), w + 2 * (M // 2)
    return features_on(tiles(*grad.shape[-2:], h, w, neighbours), grad, weights, M, size, groups)


def features_on(grid: Tiles, grad: Tensor, weights: Tensor, M: int, size: tuple[int, int], groups: int) -> Tensor:
    """`window_sum_to_features` for the pixels of a grid; `size` is that of the padded map."""
    (B, C), (height, length) = grad.shape[:2], size
    width = C // groups
    total = grad.new_zeros((B, height + grid.beyond[0], length + grid.beyond[1], C))
    (sy, sx), n = grid.step, grid.columns
    space = Workspace(grad)
    for b, block in product(range(B), grid.blocks(C)):
        kernel = _kernel(weights[b], grid, block, groups, M, space, clear=True)
        Mx, My = kernel.shape[3:5]
        pixels = _pixels(grad[b], grid, block, groups, space)
        window = _matmul(kernel.flatten(5).flatten(3, 4).flatten(1, 2), pixels.mT, space)
        window = window.view(block.number, n, groups, Mx, My, width)
        for x, y in product(range(Mx), range(My)):
            top, left = block.top + y, grid.left + x
            target = total[b, top : top + (block.number - 1) * sy + 1 : sy, left : left + (n - 1) * sx + 1 : sx]
            target.unflatten(-1, (groups, -1)).add_(window[:, :, :, x, y])
    return total[:, :height, :length].permute(0, 3, 1, 2).contiguous()


def window_sum_to_weights(grad: Tensor, padded: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """`operators.window_sum_to_weights` on the CPU."""
    grid = tiles(*grad.shape[-2:], h, w, neighbours)
    return weights_on(grid, grad, padded, M, groups, weights_format(neighbours))


def weights_on(grid: Tiles, grad: Tensor, padded: Tensor, M: int, groups: int, layout: torch.memory_format) -> Tensor:
    """`window_sum_to_weights` for the pixels of a grid, in the memory format `layout`."""
    B, C, H, W = grad.shape
    last = layout == torch.channels_last
    out = torch.empty((B, groups * M * M, H, W), dtype=grad.dtype, device="cpu", memory_format=layout)
    space = Workspace(grad)
    for b, block in product(range(B), grid.blocks(C)):
        pixels = _pixels(grad[b], grid, block, groups, space)
        window = _window(padded[b], grid, block, groups, M, space)
        if last:
            kernel = _matmul(pixels.mT, window.mT, space)
            kernel = _taps_first(kernel.view(block.number, grid.columns, groups, *_tile(grid, block), *_reach(grid, M)))
        else:
            kernel = _matmul(window, pixels, space)
            kernel = kernel.view(block.number, grid.columns, groups, *_reach(grid, M), *_tile(grid, block))
        target = block.target(out[b], space)
        by_block = _by_block(target, block, groups).unflatten(1, (M, M))  # [G, My, Mx, R, a, W]
        grid.scatter(_own_windows(kernel, grid, block, M, space, last), by_block, space)
        block.finish(target, out[b])
    return out


def _reach(grid: Tiles, M: int) -> tuple[int, int]:
    """Size of a tile's window: columns, rows."""
    return M + grid.step[1] - 1, M + grid.step[0] - 1


def _tile(grid: Tiles, block: Block) -> tuple[int, int]:
    """Size of a tile in pixels: rows, columns."""
    return block.ends[-1], grid.slots


def _taps_first(x: Tensor) -> Tensor:
    """[R, n, G, a, m, Mx, My] seen as [R, n, G, Mx, My, a, m]."""
    return x.permute(0, 1, 2, 5, 6, 3, 4)


def _window(x: Tensor, grid: Tiles, block: Block, groups: int, M: int, space: Workspace) -> Tensor:
    """The windows of a block's tiles in the map x [C, h, w]: [R, n G, Mx My, C / G], columns before rows.

    The rows of a window are stored side by side, so that the windows of neighbouring tiles overlap in memory. So the
    map is copied only M times, not M * M times.
    """
    (sy, sx), (Mx, My) = grid.step, _reach(grid, M)
    bottom = block.top + (block.number - 1) * sy + My
    rows = x[:, block.top : bottom, grid.left :]
    if bottom > x.shape[1] or grid.beyond[1]:  # the last windows reach beyond the map, where their kernels are 0
        rows = F.pad(rows, (0, grid.beyond[1], 0, max(0, bottom - x.shape[1])))
    rows = space.copy("rows", rows.permute(1, 2, 0)).unfold(0, My, sy)  # [R, width, C, My]
    rows = space.copy("window", rows.transpose(2, 3))
    R, width, _, C = rows.shape
    window = rows.as_strided((R, grid.columns, Mx * My, C), (width * My * C, sx * My * C, C, 1))
    return window if groups == 1 else window.unflatten(3, (groups, -1)).transpose(2, 3).flatten(1, 2)


def _kernel(
    weights: Tensor, grid: Tiles, block: Block, groups: int, M: int, space: Workspace, clear: bool = False
) -> Tensor:
    """Weights of the tiles' windows, [G M M, H, W] -> [R, n, G, Mx, My, a, m]; 0 outside a cell's own M x M window.

    With `clear`, slots without a pixel are 0 too, for sums over a tile's pixels.

    In memory a pixel's weights are contiguous if they are so in `weights`, and strided otherwise, so copies are fast.
    """
    tile, reach = _tile(grid, block), _reach(grid, M)
    if weights.stride(0) == 1:
        kernel = _taps_first(space.take("kernel", (block.number, grid.columns, groups, *tile, *reach)))
    else:
        kernel = space.take("kernel", (block.number, grid.columns, groups, *reach, *tile))
    if grid.step != (1, 1):
        kernel.zero_()
    weights = block.read(weights, "weights", space, clear)
    weights = _by_block(weights, block, groups).unflatten(1, (M, M))
    slotted = grid.slotted(weights, space, clear)  # [G, My, Mx, R, a, n, m]
    slotted = slotted.permute(3, 5, 0, 2, 1, 4, 6)
    for part in _cells(grid, block, M):
        kernel[part].copy_(slotted[_pixels_of(part)])
    return kernel


def _own_windows(kernel: Tensor, grid: Tiles, block: Block, M: int, space: Workspace, last: bool) -> Tensor:
    """Select each cell's own window from its tile's window: [R, n, G, Mx, My, a, m] -> [G, M, M, R, a, n, m].

    With `last`, the weights of a pixel are contiguous in memory.
    """
    if grid.step == (1, 1):
        return kernel.permute(2, 4, 3, 0, 5, 1, 6)
    outer, tile = (block.number, grid.columns, kernel.shape[2]), _tile(grid, block)
    if last:
        own = space.take("own", (*outer, *tile, M, M)).permute(2, 5, 6, 0, 3, 1, 4)
    else:
        own = space.take("own", (*outer, M, M, *tile)).permute(2, 3, 4, 0, 5, 1, 6)
    by_cell = own.permute(3, 5, 0, 2, 1, 4, 6)
    for part in _cells(grid, block, M):
        by_cell[_pixels_of(part)] = kernel[part]
    return own


def _cells(grid: Tiles, block: Block, M: int) -> Iterator[tuple]:
    """For every cell of a tile: the index of its window and pixels in [R, n, G, Mx, My, a, m]."""
    m = grid.slots // grid.step[1]
    for (y, rows), x in product(block.parts(), range(grid.step[1])):
        yield ..., slice(x, x + M), slice(y, y + M), rows, slice(x * m, (x + 1) * m)


def _pixels_of(part: tuple) -> tuple:
    return ..., *part[-2:]


def _pixels(x: Tensor, grid: Tiles, block: Block, groups: int, space: Workspace) -> Tensor:
    """[C, H, W] -> [R, n G, C / G, a m]; a pixel's channels are contiguous in memory if they are so in x."""
    x = block.read(x, "rows of pixels", space)
    outer, width, tile = (block.number, grid.columns, groups), x.shape[0] // groups, _tile(grid, block)
    if x.stride(0) == 1:
        pixels = space.take("pixels", (*outer, *tile, width)).permute(0, 1, 2, 5, 3, 4)
    else:
        pixels = space.take("pixels", (*outer, width, *tile))
    grid.gather(_by_block(x, block, groups), pixels.permute(2, 3, 0, 4, 1, 5), space)
    return pixels.flatten(4).flatten(1, 2)


def _by_block(x: Tensor, block: Block, groups: int) -> Tensor:
    """[C, R a, W] as [G, C / G, R, a, W]."""
    return x.unflatten(1, (block.number, block.ends[-1])).unflatten(0, (groups, -1))


def _matmul(a: Tensor, b: Tensor, space: Workspace) -> Tensor:
    """a @ b, one row of tiles after the other, so that no overlapping windows are copied."""
    out = space.take("product", (*a.shape[:3], b.shape[3]))
    for i in range(len(a)):
        torch.bmm(a[i], b[i], out=out[i])
    return out
