"""Some output rows of a reassembly or correlation, at any real ratio, differentiable once.

If a band of rows covers whole low-resolution rows, the fast operators treat it like a separate image. Otherwise the CPU
code uses tiles for these rows, and other devices read the neighbours one by one.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from resfu.ops.grid import containing_cell, integer_ratio, lr_cell
from resfu.ops.layout import memory_format, pad
from resfu.ops.precision import exact_dtype
from resfu.ops.reassembly import cpu, operators
from resfu.ops.reassembly.tiles import Tiles, tiles, weights_format

Rows = tuple[int, int]


def reassemble_rows(
    features: Float[Tensor, "B C h w"],
    weights: Float[Tensor, "B GKK n W"],
    rows: Rows,
    height: int,
    neighbours: str,
    padding: str,
    groups: int = 1,
) -> Float[Tensor, "B C n W"]:
    """Compute rows (first, one past the last) of a `reassemble` to `height` rows, from the weights of these rows."""
    K = round((weights.shape[1] // groups) ** 0.5)
    dtype = exact_dtype(features, weights)
    x, weights = features.to(dtype), weights.to(dtype)
    reach = operators.size(K, neighbours) // 2
    h, w = features.shape[-2:]
    band = _aligned(rows, height, h)
    if band is not None and features.device.type in ("cpu", "cuda"):
        padded = pad(x, reach, reach, padding)[:, :, band[0] : band[1] + 2 * reach]
        out = operators.reassemble(padded, weights, (band[1] - band[0], w), neighbours, groups)
        return out.to(features.dtype)
    if features.device.type == "cpu":
        grid = tiles(height, weights.shape[-1], h, w, neighbours, rows)
        if neighbours == "fine":
            weights = operators.spread(weights, K, *_fractions(weights, (h, w), rows, height))
        out = _Sum.apply(pad(x, reach, reach, padding), weights, grid, operators.size(K, neighbours), groups)
        return out.to(features.dtype)  # pyright: ignore
    by_group = weights.unflatten(1, (groups, K * K))[:, :, :, None]
    total: Tensor | None = None
    for n, value in enumerate(_neighbours(x, K, rows, (height, weights.shape[-1]), neighbours, padding)):
        part = by_group[:, :, n] * value.unflatten(1, (groups, -1))
        total = part if total is None else total + part
    assert total is not None
    return total.flatten(1, 2).to(features.dtype)


def correlate_rows(
    query: Float[Tensor, "B D n W"],
    key: Float[Tensor, "B D h w"],
    kernel_size: int,
    rows: Rows,
    height: int,
    neighbours: str,
    padding: str,
) -> Float[Tensor, "B KK n W"]:
    """Compute rows (first, one past the last) of a `correlate` with `height` rows, from the query of these rows."""
    dtype = exact_dtype(query, key)
    q, x = query.to(dtype), key.to(dtype)
    band = _aligned(rows, height, key.shape[-2])
    if band is not None and key.device.type in ("cpu", "cuda"):
        reach = operators.size(kernel_size, neighbours) // 2
        padded = pad(x, reach, reach, padding)[:, :, band[0] : band[1] + 2 * reach]
        out = operators.correlate(q, padded, (band[1] - band[0], key.shape[-1]), kernel_size, neighbours)
        return out.to(query.dtype)
    if key.device.type == "cpu":
        M, (h, w) = operators.size(kernel_size, neighbours), key.shape[-2:]
        grid = tiles(height, query.shape[-1], h, w, neighbours, rows)
        out: Any = _Correlation.apply(q, pad(x, M // 2, M // 2, padding), grid, M, weights_format(neighbours))
        if neighbours == "fine":
            out = operators.between(out, kernel_size, *_fractions(out, (h, w), rows, height))
        return out.to(query.dtype)
    size = (height, query.shape[-1])
    values = _neighbours(x, kernel_size, rows, size, neighbours, padding)
    return torch.stack([(q * value).sum(1) for value in values], 1).to(query.dtype)


class _Sum(torch.autograd.Function):
    """`operators.window_sum` on the tiles of some rows."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weights: Tensor, grid: Tiles, M: int, groups: int) -> Tensor:
        ctx.save_for_backward(padded, weights)
        ctx.given = grid, M, groups
        return cpu.sum_on(grid, padded, weights, M, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (padded, weights), (grid, M, groups) = ctx.saved_tensors, ctx.given
        to_features, to_weights = ctx.needs_input_grad[:2]
        size = (padded.shape[-2], padded.shape[-1])
        return (
            cpu.features_on(grid, grads[0], weights, M, size, groups) if to_features else None,
            cpu.weights_on(grid, grads[0], padded, M, groups, memory_format(weights)) if to_weights else None,
            *(None, None, None),
        )


class _Correlation(torch.autograd.Function):
    """`operators.window_sum_to_weights` on the tiles of some rows."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, padded: Tensor, grid: Tiles, M: int, layout: torch.memory_format) -> Tensor:
        ctx.save_for_backward(query, padded)
        ctx.given = grid, M
        return cpu.weights_on(grid, query, padded, M, 1, layout)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (query, padded), (grid, M) = ctx.saved_tensors, ctx.given
        to_query, to_key = ctx.needs_input_grad[:2]
        size = (padded.shape[-2], padded.shape[-1])
        return (
            cpu.sum_on(grid, padded, grads[0], M, 1) if to_query else None,
            cpu.features_on(grid, query, grads[0], M, size, 1) if to_key else None,
            *(None, None, None),
        )


def _fractions(x: Tensor, low: tuple[int, int], rows: Rows, height: int) -> tuple[Tensor, Tensor]:
    """For the given rows and all columns, their fractional positions between two low-resolution rows or columns."""
    vertical = lr_cell(height, low[0], x.device, x.dtype)[1][slice(*rows)]
    return vertical, lr_cell(x.shape[-1], low[1], x.device, x.dtype)[1]


def _aligned(rows: Rows, H: int, h: int) -> Rows | None:
    """The low-resolution rows that a band covers; None if it does not cover whole ones."""
    ratio = integer_ratio(H, h)
    if ratio is None or rows[0] % ratio or rows[1] % ratio:
        return None
    return rows[0] // ratio, rows[1] // ratio


def _neighbours(
    x: Tensor, K: int, rows: Rows, size: tuple[int, int], neighbours: str, padding: str
) -> Iterator[Tensor]:
    """Yield each pixel's neighbour [B, C, n, W] at each of the K x K places, row-major."""
    reach = K // 2 + 1
    padded = pad(x, reach, reach, padding)
    (H, W), (h, w) = size, x.shape[-2:]
    for oy in range(-(K // 2), K // 2 + 1):
        line = _read(padded, H, h, reach + oy, neighbours, -2, slice(*rows))
        for ox in range(-(K // 2), K // 2 + 1):
            yield _read(line, W, w, reach + ox, neighbours, -1, slice(None))


def _read(x: Tensor, P: int, p: int, offset: int, neighbours: str, dim: int, part: slice) -> Tensor:
    if neighbours == "coarse":
        return x.index_select(dim, containing_cell(P, p, x.device)[part] + offset)
    cell, fraction = lr_cell(P, p, x.device, x.dtype)
    cell, fraction = cell[part] + offset, fraction[part]
    fraction = fraction[:, None] if dim == -2 else fraction
    return torch.lerp(x.index_select(dim, cell), x.index_select(dim, cell + 1), fraction)
