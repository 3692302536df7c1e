"""Reassembly on the CPU: one small matrix product per cell, no high-resolution copy of the features.

Bilinear sampling followed by a K x K window is a (K + 1) x (K + 1) window on the LR map whose weights are the pixel's
own K x K weights convolved with its 2 x 2 bilinear ones. So "fine" and "coarse" are the same operation, and linear in
features and weights: three operators, closed under differentiation, carry every derivative of any order.
"""

from itertools import product
from math import prod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.grid import lr_cell
from resfu.ops.reassemble import dense
from resfu.ops.reassemble.cells import Block, Cells, cells


def reassemble(
    features: Float[Tensor, "B C h w"],
    weights: Float[Tensor, "B GKK H W"],
    neighbours: str,
    padding: str,
    groups: int,
) -> Float[Tensor, "B C H W"]:
    """The fast equal of `reference.reassemble`."""
    h, w = features.shape[-2:]
    K = round((weights.shape[1] // groups) ** 0.5)
    if neighbours == "fine":
        weights = _spread(weights, K, h, w)
    reach = K // 2 + (neighbours == "fine")
    padded = F.pad(features, (reach,) * 4, mode="constant" if padding == "zero" else padding)
    M = K + 1 if neighbours == "fine" else K
    return window_sum(padded, weights, M, h, w, neighbours, groups)


def _spread(weights: Float[Tensor, "B GKK H W"], K: int, h: int, w: int) -> Float[Tensor, "B GMM H W"]:
    """Convolve each pixel's K x K weights with its 2 x 2 bilinear ones: M = K + 1."""
    H, W = weights.shape[-2:]
    a = weights.contiguous().unflatten(1, (-1, K, K))  # [B, G, Ky, Kx, H, W]
    a = _spread_axis(a, lr_cell(H, h, weights.device, weights.dtype)[1][:, None], 2)
    a = _spread_axis(a, lr_cell(W, w, weights.device, weights.dtype)[1], 3)
    return a.flatten(1, 3)


def _spread_axis(a: Tensor, fraction: Tensor, dim: int) -> Tensor:
    beyond = a * fraction
    a, K = a - beyond, a.shape[dim]
    inner = a.narrow(dim, 1, K - 1) + beyond.narrow(dim, 0, K - 1)
    return torch.cat([a.narrow(dim, 0, 1), inner, beyond.narrow(dim, K - 1, 1)], dim)


@torch.library.custom_op("resfu::window_sum", mutates_args=())
def window_sum(padded: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """[B, C, h + 2 (M//2), w + 2 (M//2)], [B, groups M M, H, W] -> [B, C, H, W]: sum of each pixel's M x M window."""
    if neighbours == "dense":
        return dense.window_sum(padded, weights, groups, _format(padded))
    (B, C), (H, W) = padded.shape[:2], weights.shape[-2:]
    grid, width = cells(H, W, h, w, neighbours), C // groups
    out = torch.empty((B, C, H, W), dtype=padded.dtype, memory_format=_format(padded))
    channels_last = _format(padded) == torch.channels_last
    maps = padded.permute(0, 2, 3, 1).contiguous()
    scratch = grid.scratch(padded, C)
    for b, block in product(range(B), grid.blocks(C)):
        cell = (block.cell_rows, grid.columns, groups)
        kernel = _kernel(weights[b, :, block.rows], grid, block, groups, M)
        window = _window(maps[b], grid, block, groups, M)
        if channels_last:
            result = _matmul(kernel.mT, window, scratch).view(*cell, block.height, grid.slots, width)
            result = result.permute(2, 5, 0, 3, 1, 4)
        else:
            result = _matmul(window.mT, kernel, scratch).view(*cell, width, block.height, grid.slots)
            result = result.permute(2, 3, 0, 4, 1, 5)
        grid.scatter(result, _by_block(out[b, :, block.rows], block, groups))
    return out


@torch.library.custom_op("resfu::window_sum_to_features", mutates_args=())
def window_sum_to_features(
    grad: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int
) -> Tensor:
    """The adjoint of `window_sum` in its features: [B, C, H, W] -> [B, C, h + 2 (M//2), w + 2 (M//2)]."""
    if neighbours == "dense":
        return dense.window_sum_to_features(grad, weights, groups)
    (B, C), (H, W) = grad.shape[:2], weights.shape[-2:]
    grid, reach, width = cells(H, W, h, w, neighbours), M // 2, C // groups
    total = grad.new_zeros((B, h + 2 * reach, w + 2 * reach, C))
    scratch = grid.scratch(grad, C)
    for b, block in product(range(B), grid.blocks(C)):
        R, n = block.cell_rows, grid.columns
        kernel = _kernel(weights[b, :, block.rows], grid, block, groups, M)
        pixels = _pixels(grad[b, :, block.rows], grid, block, groups, scratch)
        window = _matmul(kernel, pixels.mT).view(R, n, groups, M, M, width)
        for x, y in product(range(M), range(M)):
            target = total[b, block.top + y : block.top + y + R, grid.left + x : grid.left + x + n]
            target.unflatten(-1, (groups, -1)).add_(window[:, :, :, x, y])
    return total.permute(0, 3, 1, 2).contiguous()


@torch.library.custom_op("resfu::window_sum_to_weights", mutates_args=())
def window_sum_to_weights(grad: Tensor, padded: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """The adjoint of `window_sum` in its weights: [B, C, H, W] -> [B, groups M M, H, W]."""
    if neighbours == "dense":
        return dense.window_sum_to_weights(grad, padded, groups)
    B, C, H, W = grad.shape
    grid = cells(H, W, h, w, neighbours)
    out = grad.new_empty((B, groups * M * M, H, W))
    maps = padded.permute(0, 2, 3, 1).contiguous()
    scratch = grid.scratch(grad, C)
    for b, block in product(range(B), grid.blocks(C)):
        pixels = _pixels(grad[b, :, block.rows], grid, block, groups, scratch)
        kernel = _matmul(_window(maps[b], grid, block, groups, M), pixels)
        kernel = kernel.view(block.cell_rows, grid.columns, groups, M, M, block.height, grid.slots)
        target = _by_block(out[b, :, block.rows], block, groups).unflatten(1, (M, M))
        grid.scatter(kernel.permute(2, 4, 3, 0, 5, 1, 6), target)
    return out


@window_sum.register_fake
def _(padded, weights, M, h, w, neighbours, groups):
    size = (*padded.shape[:2], *weights.shape[-2:])
    return torch.empty(size, dtype=padded.dtype, device=padded.device, memory_format=_format(padded))


@window_sum_to_features.register_fake
def _(grad, weights, M, h, w, neighbours, groups):
    reach = M // 2
    return grad.new_empty((*grad.shape[:2], h + 2 * reach, w + 2 * reach))


@window_sum_to_weights.register_fake
def _(grad, padded, M, h, w, neighbours, groups):
    B, _, H, W = grad.shape
    return grad.new_empty((B, groups * M * M, H, W))


def _derivatives(operator, differentiate) -> None:
    """Register an operator that is linear in each of its first two tensors."""

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])
        ctx.rest = inputs[2:]

    def backward(ctx, cotangent):
        first, second = ctx.saved_tensors
        in_first, in_second = differentiate(cotangent, first, second, *ctx.rest)
        return (
            in_first() if ctx.needs_input_grad[0] else None,
            in_second() if ctx.needs_input_grad[1] else None,
            *(None for _ in ctx.rest),
        )

    operator.register_autograd(backward, setup_context=setup_context)


_derivatives(
    window_sum,
    lambda d, padded, weights, *rest: (
        lambda: window_sum_to_features(d, weights, *rest),
        lambda: window_sum_to_weights(d, padded, *rest),
    ),
)
_derivatives(
    window_sum_to_features,
    lambda d, grad, weights, *rest: (
        lambda: window_sum(d, weights, *rest),
        lambda: window_sum_to_weights(grad, d, *rest),
    ),
)
_derivatives(
    window_sum_to_weights,
    lambda d, grad, padded, *rest: (
        lambda: window_sum(padded, d, *rest),
        lambda: window_sum_to_features(grad, d, *rest),
    ),
)


def _window(x: Tensor, grid: Cells, block: Block, groups: int, M: int) -> Tensor:
    """The M x M windows of a block's cells in the map x [h, w, C]: [R, n G, M M, C / G], columns before rows.

    The M rows of the map are laid side by side, so that the windows of neighbouring cells overlap in memory: the map
    is copied M times in all, not M M times.
    """
    rows = x[block.top : block.top + block.cell_rows + M - 1, grid.left :].unfold(0, M, 1)  # [R, width, C, M]
    rows = rows.transpose(2, 3).contiguous()
    R, width, _, C = rows.shape
    window = rows.as_strided((R, grid.columns, M * M, C), (width * M * C, M * C, C, 1))
    return window if groups == 1 else window.unflatten(3, (groups, -1)).transpose(2, 3).flatten(1, 2)


def _kernel(weights: Tensor, grid: Cells, block: Block, groups: int, M: int) -> Tensor:
    """[G M M, R a, W] -> [R, n G, M M, a m], the window's columns before its rows."""
    kernel = weights.new_empty((block.cell_rows, grid.columns, groups, M, M, block.height, grid.slots))
    grid.gather(_by_block(weights, block, groups).unflatten(1, (M, M)), kernel.permute(2, 4, 3, 0, 5, 1, 6))
    return kernel.flatten(5).flatten(3, 4).flatten(1, 2)


def _pixels(x: Tensor, grid: Cells, block: Block, groups: int, scratch: Tensor) -> Tensor:
    """[C, R a, W] -> [R, n G, C / G, a m]."""
    size = (block.cell_rows, grid.columns, groups, x.shape[0] // groups, block.height, grid.slots)
    pixels = scratch[: prod(size)].view(size)
    grid.gather(_by_block(x, block, groups), pixels.permute(2, 3, 0, 4, 1, 5))
    return pixels.flatten(4).flatten(1, 2)


def _by_block(x: Tensor, block: Block, groups: int) -> Tensor:
    """[C, R a, W] as [G, C / G, R, a, W]."""
    return x.unflatten(1, (block.cell_rows, block.height)).unflatten(0, (groups, -1))


def _matmul(a: Tensor, b: Tensor, scratch: Tensor | None = None) -> Tensor:
    """a @ b, one row of cells after the other, so that no overlapping windows are copied."""
    size = (*a.shape[:3], b.shape[3])
    out = a.new_empty(size) if scratch is None else scratch[: prod(size)].view(size)
    for i in range(len(a)):
        torch.bmm(a[i], b[i], out=out[i])
    return out


def _format(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
