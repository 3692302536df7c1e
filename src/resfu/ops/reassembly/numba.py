"""The softmax and the window sum in one compiled kernel, in fp32 on the CPU."""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.compiled.threads import run, scratch
from resfu.ops.compiled.tile import PIXELS, ROWS
from resfu.ops.grid import lr_cell, neighbour_in_image
from resfu.ops.reassembly import numba_kernels as kernels


class Axes(NamedTuple):
    """Where the windows of an H x W image lie in an h x w map with a border of two pixels.

    Attributes:
        cells: [n + 1] the first rows of pixels of each row of cells, and H.
        rows: [H] the first row of a pixel's window.
        fy: [H] its way to the next one.
        row_mask: [H] bit ky: whether the neighbours in that row lie inside the image.
        columns: [T] the first column of a tile's windows.
        fx: [T 32] the way of a pixel to the next column.
        place: [T 32] its first column in the tile's.
        inside: [T, 3, 32] 0 where the neighbours of a column lie inside the image, else minus infinity.
        J: columns of a tile.
    """

    cells: Tensor
    rows: Tensor
    fy: Tensor
    row_mask: Tensor
    columns: Tensor
    fx: Tensor
    place: Tensor
    inside: Tensor
    J: int


@lru_cache(maxsize=64)
def axes(H: int, W: int, h: int, w: int, mask: bool) -> Axes:
    """Of an image over a map; without `mask` all neighbours count."""
    K = kernels.K
    (rows, fy), (column, fx) = lr_cell(H, h, "cpu", torch.float32), lr_cell(W, w, "cpu", torch.float32)
    rows, column = rows + 1, column + 1
    cells = [0] + [y for y in range(1, H) if rows[y] != rows[y - 1]] + [H]
    tiles = -(-W // PIXELS)
    column = F.pad(column[None].float(), (0, tiles * PIXELS - W), mode="replicate")[0].long().view(tiles, PIXELS)
    start = column[:, 0].clone()
    J = int((column[:, -1] - start).max()) + kernels.M
    seen_rows, seen_columns = (neighbour_in_image(P, p, K, torch.device("cpu")) for P, p in ((H, h), (W, w)))
    if not mask:
        seen_rows, seen_columns = torch.ones_like(seen_rows), torch.ones_like(seen_columns)
    bits = (seen_rows.long() << torch.arange(K, device="cpu")[:, None]).sum(0)
    inside = torch.zeros(K, W, device="cpu").masked_fill_(~seen_columns, float("-inf"))
    inside = F.pad(inside, (0, tiles * PIXELS - W)).view(K, tiles, PIXELS).transpose(0, 1).contiguous()
    fx = F.pad(fx, (0, tiles * PIXELS - W))
    place = (column - start[:, None]).flatten()
    return Axes(torch.tensor(cells, device="cpu"), rows, fy, bits, start, fx, place, inside, J)


def softmax_window_sum(padded: Tensor, scores: Tensor, h: int, w: int, mask: bool) -> Tensor:
    """[B, C, h + 4, w + 4], scores [B, 9, H, W] -> [B, C, H, W]: "fine" neighbours, K = 3."""
    (B, C, h1, w1), (H, W) = padded.shape, scores.shape[-2:]
    out = torch.empty((B, C, H, W), dtype=padded.dtype)
    C8 = -(-C // ROWS) * ROWS
    low = F.pad(padded.permute(0, 2, 3, 1), (0, C8 - C)).contiguous()
    a = axes(H, W, h, w, mask)
    cells = len(a.cells) - 1
    size = (2 * kernels.COUNT + 2 + kernels.M * a.J + ROWS) * PIXELS + kernels.M * a.J * C8
    space = scratch(size)
    arrays = [t.contiguous().view(-1).numpy() for t in (low, scores)]
    target, table = out.view(-1).numpy(), a.rows.numpy()
    tables = [t.numpy() for t in (a.rows, a.fy, a.row_mask, a.columns, a.fx, a.place, a.inside.view(-1))]

    def task(first: int, last: int, thread: int) -> None:
        kernels.softmax_window_sum(
            first, last, cells, a.cells.numpy(), H, W, arrays[0], h1, w1, C, C8, arrays[1], *tables, a.J, target,
            space, thread * size, table,
        )  # fmt: skip

    run(task, B * cells)
    return out
