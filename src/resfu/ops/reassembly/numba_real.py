"""Windows of whole low-resolution pixels ("coarse") at any real ratio, by the compiled kernels of whole ratios.

At a real ratio low-resolution pixels hold different numbers of output pixels, at most as many as at the next whole
ratio. So every output pixel gets a place in the grid of that ratio, inside its own low-resolution pixel. The other
places hold zeros and are not read. To lay a map out on the grid and to pick it up again are adjoints of each other.
"""

from typing import Any, NamedTuple, no_type_check

import torch
from torch import Tensor

from resfu.ops.compiled.kernel import shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.threads import flat, run
from resfu.ops.grid import containing_cell
from resfu.ops.kept import kept
from resfu.ops.reassembly import numba_adjoints
from resfu.ops.reassembly.softmax import window_softmax


def reassemble(
    padded: Tensor, weights: Tensor, K: int, low: tuple[int, int], softmax: bool, out: Tensor | None
) -> Tensor:
    """[B, C, h + K - 1, w + K - 1], [B, K K, H, W] -> [B, C, H, W], with weights or the softmax of scores.

    Differentiable where no `out` is given.
    """
    recorded = torch.is_grad_enabled() and (padded.requires_grad or weights.requires_grad)
    if recorded and softmax:
        weights, softmax = window_softmax(weights), False
    grid = next_grid(weights, low)
    weights = weights if grid is None else lay(weights, *grid)
    if recorded:
        result = numba_adjoints.window_sum(padded, weights, K, *low)
    else:
        result = numba_adjoints.plain_sum(padded, weights, K, *low, softmax, out if grid is None else None)
    return result if grid is None else pick(result, *grid, out)


def correlate(query: Tensor, padded: Tensor, K: int, low: tuple[int, int]) -> Tensor:
    """[B, D, H, W], [B, D, h + K - 1, w + K - 1] -> [B, K K, H, W]. Differentiable."""
    grid = next_grid(query, low)
    if grid is None:
        return numba_adjoints.window_sum_to_weights(query, padded, K, *low)
    return pick(numba_adjoints.window_sum_to_weights(lay(query, *grid), padded, K, *low), *grid)


class Places(NamedTuple):
    """The places of an axis with P pixels on the grid of the next whole ratio.

    Attributes:
        pixel: [P'], the pixel at each place; -1 where there is none.
        place: [P], the place of each pixel.
    """

    pixel: Tensor
    place: Tensor


def next_grid(pixels: Tensor, low: tuple[int, int]) -> tuple[Places, Places] | None:
    """The places of the rows and columns of a map [B, C, H, W]; None if both ratios are whole."""
    (h, w), (H, W) = low, pixels.shape[-2:]
    return None if H % h == 0 and W % w == 0 else (_places(H, h), _places(W, w))


@kept()
def _places(P: int, p: int) -> Places:
    ratio, cell = -(-P // p), containing_cell(P, p, "cpu")
    count = torch.bincount(cell, minlength=p)
    first = count.cumsum(0) - count  # the first pixel of each cell
    place = cell * ratio + torch.arange(P, device="cpu") - first[cell]
    pixel = torch.full((p * ratio,), -1, dtype=torch.int64, device="cpu")
    pixel[place] = torch.arange(P, device="cpu")
    return Places(pixel, place)


def lay(x: Tensor, rows: Places, columns: Places) -> Tensor:
    """[B, C, H, W] -> [B, C, H', W'], zeros where a place has no pixel. Differentiable."""
    return _Moved.apply(x, rows, columns, True)  # pyright: ignore[reportReturnType]


def pick(x: Tensor, rows: Places, columns: Places, out: Tensor | None = None) -> Tensor:
    """[B, C, H', W'] -> [B, C, H, W], into `out` if given. Differentiable without it."""
    if out is not None:
        return _moved(x, rows.place, columns.place, out)
    return _Moved.apply(x, rows, columns, False)  # pyright: ignore[reportReturnType]


class _Moved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Places, columns: Places, to_grid: bool) -> Tensor:
        ctx.rest = rows, columns, not to_grid
        source_rows, source_columns = (axis.pixel if to_grid else axis.place for axis in (rows, columns))
        return _moved(x, source_rows, source_columns)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _Moved.apply(grads[0], *ctx.rest), None, None, None


def _moved(x: Tensor, rows: Tensor, columns: Tensor, out: Tensor | None = None) -> Tensor:
    """[B, C, P, Q] -> [B, C, P', Q'] from the row [P'] and column [Q'] of each value, zeros where it is -1."""
    (B, C, P, Q), size = x.shape, (len(rows), len(columns))
    out = x.new_empty((B, C, *size)) if out is None else out
    run(moved, B * C, flat(x), P, Q, flat(rows), flat(columns), *size, flat(out))
    return out


@no_type_check
@shared_kernel
def moved(first, last, thread, x, P, Q, rows, columns, H, W, out):
    """Planes of out [planes, H, W] from planes of x [planes, P, Q]."""
    for plane in range(first, last):
        for y in range(H):
            target, row = (plane * H + y) * W, get(rows, y)
            if row < 0:
                for i in range(W):
                    put(out, target + i, 0)
                continue
            source = (plane * P + row) * Q
            for i in range(W):
                column = get(columns, i)
                value = get(x, source + max(column, 0))
                put(out, target + i, 0 if column < 0 else value)
