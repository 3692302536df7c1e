"""Reassembly on the CPU: one small matrix product per cell, no high-resolution copy of the features.

Bilinear sampling followed by a K x K window is a (K + 1) x (K + 1) window on the LR map whose weights are the pixel's
own K x K weights convolved with its 2 x 2 bilinear ones. So "fine" and "coarse" are the same operation, and linear in
features and weights: three operators, closed under differentiation, carry every derivative of any order.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.grid import lr_cell
from resfu.ops.reassemble import dense
from resfu.ops.reassemble.cells import Cells, cells


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
    elif neighbours == "coarse":
        weights = weights.unflatten(1, (groups, K, K)).transpose(2, 3).flatten(1, 3)
    reach = K // 2 + (neighbours == "fine")
    padded = F.pad(features, (reach,) * 4, mode="constant" if padding == "zero" else padding)
    M = K + 1 if neighbours == "fine" else K
    return window_sum(padded, weights, M, h, w, neighbours, groups)


def _spread(weights: Float[Tensor, "B GKK H W"], K: int, h: int, w: int) -> Float[Tensor, "B GMM H W"]:
    """Convolve each pixel's K x K weights with its 2 x 2 bilinear ones: M = K + 1, columns before rows."""
    H, W = weights.shape[-2:]
    fy = lr_cell(H, h, weights.device, weights.dtype)[1][:, None, None, None, None]
    fx = lr_cell(W, w, weights.device, weights.dtype)[1][:, None, None, None]
    a = weights.permute(0, 2, 3, 1).unflatten(3, (-1, K, K)).transpose(4, 5)  # [B, H, W, G, Kx, Ky]
    ay = a * fy
    a = F.pad(a - ay, (0, 1)) + F.pad(ay, (1, 0))
    ax = a * fx
    a = F.pad(a - ax, (0, 0, 0, 1)) + F.pad(ax, (0, 0, 1, 0))
    return a.flatten(3).permute(0, 3, 1, 2)


@torch.library.custom_op("resfu::window_sum", mutates_args=())
def window_sum(padded: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """[B, C, h + 2 (M//2), w + 2 (M//2)], [B, groups M M, H, W] -> [B, C, H, W]: sum of each pixel's M x M window."""
    if neighbours == "dense":
        return dense.window_sum(padded, weights, groups, _format(padded))
    (B, C), (H, W) = padded.shape[:2], weights.shape[-2:]
    grid = cells(H, W, h, w, neighbours)
    out = torch.empty((B, C, H, W), dtype=padded.dtype, memory_format=_format(padded))
    kernels = _kernels(weights, grid)
    channels_last = _format(padded) == torch.channels_last
    for b, rows, window in _windows(padded, grid, M, groups):
        kernel = _kernel(kernels[b, rows], grid, M, groups)  # [n G, a m, M M]
        if channels_last:
            product = torch.bmm(kernel, window).view(grid.columns, groups, -1, grid.slots, C // groups)
            product = product.permute(2, 0, 3, 1, 4).reshape(-1, grid.columns * grid.slots, C)
            out.permute(0, 2, 3, 1)[b, rows] = grid.scatter(product, 1)
        else:
            product = torch.bmm(window.transpose(1, 2), kernel.transpose(1, 2))
            product = product.view(grid.columns, C, -1, grid.slots).permute(1, 2, 0, 3).flatten(2)
            out[b, :, rows] = grid.scatter(product, 2)
    return out


@torch.library.custom_op("resfu::window_sum_to_features", mutates_args=())
def window_sum_to_features(
    grad: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int
) -> Tensor:
    """The adjoint of `window_sum` in its features: [B, C, H, W] -> [B, C, h + 2 (M//2), w + 2 (M//2)]."""
    if neighbours == "dense":
        return dense.window_sum_to_features(grad, weights, groups)
    (B, C), (H, W) = grad.shape[:2], weights.shape[-2:]
    grid = cells(H, W, h, w, neighbours)
    reach = M // 2
    kernels = _kernels(weights, grid)
    total = torch.zeros((B, h + 2 * reach, w + 2 * reach, C), dtype=grad.dtype)
    n = grid.columns
    for b in range(B):
        for top, first, last in grid.rows:
            kernel = _kernel(kernels[b, first:last], grid, M, groups)
            pixels = _pixels(grad[b, :, first:last], grid, groups)
            window = torch.bmm(kernel.transpose(1, 2), pixels)  # [n G, M M, C / G]
            window = window.view(n, groups, M, M, -1).permute(0, 2, 3, 1, 4).reshape(n, M, M, C)
            for x in range(M):
                total[b, top : top + M, grid.left + x : grid.left + x + n] += window[:, x].transpose(0, 1)
    return total.permute(0, 3, 1, 2).contiguous()


@torch.library.custom_op("resfu::window_sum_to_weights", mutates_args=())
def window_sum_to_weights(grad: Tensor, padded: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """The adjoint of `window_sum` in its weights: [B, C, H, W] -> [B, groups M M, H, W]."""
    if neighbours == "dense":
        return dense.window_sum_to_weights(grad, padded, groups)
    B, _, H, W = grad.shape
    grid = cells(H, W, h, w, neighbours)
    out = grad.new_empty((B, H, W, groups, M, M))
    for b, rows, window in _windows(padded, grid, M, groups):
        pixels = _pixels(grad[b, :, rows], grid, groups)
        kernel = torch.bmm(pixels, window.transpose(1, 2))  # [n G, a m, M M]
        kernel = kernel.view(grid.columns, groups, -1, grid.slots, M, M).permute(2, 0, 3, 1, 4, 5)
        out[b, rows] = grid.scatter(kernel.flatten(1, 2), 1)
    return out.flatten(3).permute(0, 3, 1, 2)


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
    return grad.new_empty((B, H, W, groups * M * M)).permute(0, 3, 1, 2)


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


def _windows(padded: Tensor, grid: Cells, M: int, groups: int) -> Iterator[tuple[int, slice, Tensor]]:
    """For every image and row of cells: the M x M windows [n G, M M, C / G] of its cells, columns before rows.

    The M rows of the map are laid side by side, so that the windows of neighbouring cells overlap in memory: the map
    is copied M times in all, not M M times.
    """
    x = padded.permute(0, 2, 3, 1).contiguous()
    B, _, _, C = x.shape
    for b in range(B):
        for top, first, last in grid.rows:
            patch = x[b, top : top + M, grid.left :].transpose(0, 1).contiguous()  # [width, M, C]
            window = patch.as_strided((grid.columns, M * M, C), (M * C, C, 1))
            if groups > 1:
                window = window.unflatten(2, (groups, -1)).transpose(1, 2).flatten(0, 1)
            yield b, slice(first, last), window


def _kernels(weights: Tensor, grid: Cells) -> Tensor:
    """[B, groups M M, H, W] -> [B, H, n m, groups M M]."""
    return grid.gather(weights.permute(0, 2, 3, 1), 2)


def _kernel(kernels: Tensor, grid: Cells, M: int, groups: int) -> Tensor:
    """[a, n m, groups M M] -> [n G, a m, M M]."""
    kernel = kernels.view(-1, grid.columns, grid.slots, groups, M * M).permute(1, 3, 0, 2, 4)
    return kernel.reshape(grid.columns * groups, -1, M * M)


def _pixels(x: Tensor, grid: Cells, groups: int) -> Tensor:
    """[C, a, W] -> [n G, a m, C / G]."""
    C, a, _ = x.shape
    x = grid.gather(x, 2).view(groups, C // groups, a, grid.columns, grid.slots)
    return x.permute(3, 0, 1, 2, 4).reshape(grid.columns * groups, C // groups, -1).transpose(1, 2)


def _format(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
