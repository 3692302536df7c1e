"""Reassembly in standard operators, for other runtimes: one small matrix product for each cell.

The pixels of a cell (see `cells.py`) share a window of the low-resolution map. The windows are gathered from the padded
map, and the sum of a cell is [pixels, taps] @ [taps, C]. At whole ratios r the cells of "fine" neighbours are
low-resolution pixels too, with windows of (K + 2)^2 taps, so that no pixel has to be padded or cropped. For each of the
r x r places in a cell, a constant matrix converts a pixel's K x K weights to weights of these taps.
"""

import torch
from torch import Tensor

from resfu.ops.portable import registered_decomposition, whole_ratio
from resfu.ops.reassembly import operators
from resfu.ops.reassembly.borders import bordered
from resfu.ops.reassembly.cells import Cells, join, split
from resfu.ops.reassembly.portable_tiles import by_tile


def reassemble(features: Tensor, weights: Tensor, neighbours: str, padding: str, groups: int) -> Tensor:
    """The portable form of `reference.reassemble`."""
    (h, w), (H, W) = features.shape[-2:], weights.shape[-2:]
    K = round((weights.shape[1] // groups) ** 0.5)
    rows, columns = whole_ratio(H, h), whole_ratio(W, w)
    if neighbours == "fine" and rows is not None and columns is not None:
        kernel = _spread_by_place(weights, (h, w), K, rows, columns, groups)
        reach = K // 2 + 1
        return _by_cell(bordered(features, reach, padding), kernel, K + 2, rows, columns)
    reach = operators.size(K, neighbours) // 2
    return operators.reassemble(bordered(features, reach, padding), weights, (h, w), neighbours, groups, window_sum)


def correlate(query: Tensor, key: Tensor, K: int, neighbours: str, padding: str) -> Tensor:
    """The portable form of `reference.correlate`."""
    low, reach = (key.shape[-2], key.shape[-1]), operators.size(K, neighbours) // 2
    return operators.correlate(query, bordered(key, reach, padding), low, K, neighbours, window_sum_to_weights)


@registered_decomposition(operators.window_sum)
def window_sum(padded: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """The portable form of `operators.window_sum`."""
    if _shifts_instead(weights, h, w, neighbours):
        return _by_shifts(padded, weights, M, groups)
    ratios = [whole_ratio(P, p) for P, p in zip(weights.shape[-2:], (h, w), strict=True)]
    if neighbours != "fine" and ratios[0] is not None and ratios[1] is not None:
        return by_tile(padded, weights, M, ratios[0], ratios[1], groups)
    rows, columns = (Cells(P, p, neighbours) for P, p in zip(weights.shape[-2:], (h, w), strict=True))
    kernel = split(weights, rows, columns)  # [B, G M M, rows, a, columns, b]
    kernel = kernel.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)  # [B, rows, columns, a b, G M M]
    if groups > 1:
        kernel = kernel.unflatten(4, (groups, -1)).transpose(3, 4)
    return columns.scatter(rows.scatter(_by_cell(padded, kernel, M, rows.pixels, columns.pixels), 2), 3)


@registered_decomposition(operators.window_sum_to_weights)
def window_sum_to_weights(
    query: Tensor, padded: Tensor, M: int, h: int, w: int, neighbours: str, groups: int
) -> Tensor:
    """The portable form of `operators.window_sum_to_weights`."""
    if _shifts_instead(query, h, w, neighbours):
        return _correlated_by_shifts(query, padded, M, groups)
    rows, columns = (Cells(P, p, neighbours) for P, p in zip(query.shape[-2:], (h, w), strict=True))
    pixels = split(query, rows, columns)  # [B, C, rows, a, columns, b]
    pixels = pixels.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)  # [B, rows, columns, a b, C]
    if groups > 1:
        pixels = pixels.unflatten(4, (groups, -1)).transpose(3, 4)
    scores = pixels @ _windows(padded, M, groups).mT  # [.., a b, M M]
    scores = scores.unflatten(-2, (rows.pixels, columns.pixels))
    order = (0, 5, 1, 3, 2, 4) if groups == 1 else (0, 3, 6, 1, 4, 2, 5)
    scores = scores.permute(order)
    return join(scores if groups == 1 else scores.flatten(1, 2), rows, columns)


def _spread_by_place(weights: Tensor, low: tuple[int, int], K: int, rows: int, columns: int, groups: int) -> Tensor:
    """Convert weights [B, G K K, H, W] to weights of the taps, [B, h, w, (G,) r r, (K + 2)^2], by place in the cell."""
    (B, N), (h, w) = weights.shape[:2], low
    places = weights.flatten(2).mT.reshape(B, h, rows, w, columns, N)  # runtimes move a pixel's N numbers at once
    places = places.permute(0, 2, 4, 1, 3, 5).reshape(B, rows * columns, h * w * groups, K * K)
    matrix = _interpolation_by_place(K, rows, columns, weights)  # [a b, K K, (K + 2)^2]
    kernel = places @ matrix
    if groups == 1:
        return kernel.transpose(1, 2).reshape(B, h, w, rows * columns, (K + 2) ** 2)
    kernel = kernel.reshape(B, rows * columns, h * w, groups, (K + 2) ** 2).permute(0, 2, 3, 1, 4)
    return kernel.reshape(B, h, w, groups, rows * columns, (K + 2) ** 2)


def _interpolation_by_place(K: int, rows: int, columns: int, like: Tensor) -> Tensor:
    """Bilinear weights of the taps in a pixel's K x K neighbours, [a b, K K, (K + 2)^2], for each place in the cell."""
    axes = []
    for ratio in (rows, columns):
        axis = torch.zeros((ratio, K, K + 2), dtype=torch.float64, device="cpu")
        for place in range(ratio):
            beyond = 2 * place + 1 - ratio  # twice the ratio times the distance from the centre
            cell = beyond // (2 * ratio)
            fraction = beyond / (2 * ratio) - cell
            for n in range(K):
                axis[place, n, n + 1 + cell] += 1 - fraction
                axis[place, n, n + 2 + cell] += fraction
        axes.append(axis)
    both = axes[0][:, None, :, None, :, None] * axes[1][None, :, None, :, None, :]
    return both.reshape(rows * columns, K * K, (K + 2) ** 2).to(like)


def _by_cell(padded: Tensor, kernel: Tensor, M: int, rows: int, columns: int) -> Tensor:
    """Sum the window of each pixel's cell with weights [B, h, w, (G,) a b, M M], to [B, C, h a, w b]."""
    (B, C), (h, w) = padded.shape[:2], kernel.shape[1:3]
    if kernel.dim() == 5:
        out = (kernel @ _windows(padded, M)).reshape(B, h, w, rows, columns * C)
        # Two permutations that move many numbers at once are faster than one that moves single numbers.
        return out.transpose(2, 3).reshape(B, h * rows, w * columns, C).permute(0, 3, 1, 2)
    groups = kernel.shape[3]
    out = (kernel @ _windows(padded, M, groups)).unflatten(4, (rows, columns))  # [B, h, w, G, a, b, C / G]
    return out.permute(0, 3, 6, 1, 4, 2, 5).reshape(B, C, h * rows, w * columns)


def _windows(padded: Tensor, M: int, groups: int = 1) -> Tensor:
    """The window of each cell, [B, C, rows + M - 1, columns + M - 1] -> [B, rows, columns, (G,) M M, C / G]."""
    (B, C, high, wide), device = padded.shape, padded.device
    rows, columns, tap = high - (M - 1), wide - (M - 1), torch.arange(M, device=device)
    row = torch.arange(rows, device=device).reshape(-1, 1, 1, 1) + tap[:, None]
    place = row * wide + torch.arange(columns, device=device).reshape(-1, 1, 1) + tap  # [rows, columns, M, M]
    x = padded.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).view(B, -1, C)
    x = x.index_select(1, place.reshape(-1))
    if groups == 1:
        return x.reshape(B, rows, columns, M * M, C)
    return x.reshape(B, rows, columns, M * M, groups, C // groups).transpose(3, 4)


def _shifted(x: Tensor, dim: int, n: int, M: int) -> Tensor:
    """x[n], x[n + 1], ... along an axis, M - 1 entries less than x; the slice's ends do not depend on the size."""
    index = [slice(None)] * x.dim()
    index[dim] = slice(n, n - (M - 1) or None)
    return x[tuple(index)]


def _shifts_instead(x: Tensor, h: int, w: int, neighbours: str) -> bool:
    """Whether to sum shifted copies of the map: at ratio 1, where a cell is a single pixel."""
    return neighbours != "fine" and whole_ratio(x.shape[-2], h) == 1 and whole_ratio(x.shape[-1], w) == 1


def _by_shifts(padded: Tensor, weights: Tensor, M: int, groups: int) -> Tensor:
    total = None
    for n, value in enumerate(_shifts(padded, M, groups)):
        term = value * weights.unflatten(1, (groups, M * M))[:, :, n, None]
        total = term if total is None else total + term
    return total.flatten(1, 2)  # pyright: ignore[reportOptionalMemberAccess]


def _correlated_by_shifts(query: Tensor, padded: Tensor, M: int, groups: int) -> Tensor:
    pixels = query.unflatten(1, (groups, -1))
    return torch.stack([(pixels * value).sum(2) for value in _shifts(padded, M, groups)], 2).flatten(1, 2)


def _shifts(padded: Tensor, M: int, groups: int) -> list[Tensor]:
    """The map shifted by each of the M x M offsets, [B, G, C / G, H, W]."""
    x = padded.unflatten(1, (groups, -1))
    return [_shifted(rows, 4, n, M) for rows in (_shifted(x, 3, m, M) for m in range(M)) for n in range(M)]
