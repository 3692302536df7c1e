"""Reassembly in standard operators for compilers outside Python: one product of small matrices.

The pixels of a cell (see `cells.py`) share a window of the low-resolution map. The windows are slices of the padded
map, and a cell's sum is [C, taps] @ [taps, pixels]. At whole ratios "fine" takes low-resolution pixels for cells too:
their windows hold K + 2 taps a side, and how much of each tap a pixel's K x K weights take is a matrix for each of the
r x r places in a cell, so that no pixel has to be padded or cropped.
"""

import torch
from torch import Tensor

from resfu.ops.portable import registered_decomposition, whole_ratio
from resfu.ops.reassembly import operators
from resfu.ops.reassembly.borders import bordered
from resfu.ops.reassembly.cells import Cells, join, split
from resfu.ops.reassembly.portable_tiles import by_tile


def reassemble(features: Tensor, weights: Tensor, neighbours: str, padding: str, groups: int) -> Tensor:
    """The portable equal of `reference.reassemble`."""
    (h, w), (H, W) = features.shape[-2:], weights.shape[-2:]
    K = round((weights.shape[1] // groups) ** 0.5)
    rows, columns = whole_ratio(H, h), whole_ratio(W, w)
    if neighbours == "fine" and rows is not None and columns is not None:
        kernel = _spread_by_place(weights, (h, w), K, rows, columns, groups)
        reach = K // 2 + 1
        out = _by_cell(bordered(features, reach, padding), kernel, K + 2, rows, columns)
        return out.reshape(out.shape[0], out.shape[1], H, W)
    reach = operators.size(K, neighbours) // 2
    return operators.reassemble(bordered(features, reach, padding), weights, (h, w), neighbours, groups, window_sum)


def correlate(query: Tensor, key: Tensor, K: int, neighbours: str, padding: str) -> Tensor:
    """The portable equal of `reference.correlate`."""
    low, reach = (key.shape[-2], key.shape[-1]), operators.size(K, neighbours) // 2
    return operators.correlate(query, bordered(key, reach, padding), low, K, neighbours, window_sum_to_weights)


@registered_decomposition(operators.window_sum)
def window_sum(padded: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """The portable equal of `operators.window_sum`."""
    if _shifts_instead(weights, h, w, neighbours):
        return _by_shifts(padded, weights, M, groups)
    ratios = [whole_ratio(P, p) for P, p in zip(weights.shape[-2:], (h, w), strict=True)]
    if neighbours != "fine" and ratios[0] is not None and ratios[1] is not None:
        return by_tile(padded, weights, M, ratios[0], ratios[1], groups)
    rows, columns = (Cells(P, p, neighbours) for P, p in zip(weights.shape[-2:], (h, w), strict=True))
    kernel = split(weights, rows, columns)  # [B, G M M, rows, a, columns, b]
    kernel = kernel.permute(0, 2, 4, 1, 3, 5).flatten(4)  # [B, rows, columns, G M M, a b]
    if groups > 1:
        kernel = kernel.unflatten(3, (groups, -1))
    return join(_by_cell(padded, kernel, M, rows.pixels, columns.pixels), rows, columns)


@registered_decomposition(operators.window_sum_to_weights)
def window_sum_to_weights(
    query: Tensor, padded: Tensor, M: int, h: int, w: int, neighbours: str, groups: int
) -> Tensor:
    """The portable equal of `operators.window_sum_to_weights`."""
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
    """[B, G K K, H, W] -> [B, h, w, (G,) (K + 2)^2, r r]: what each place in a cell takes of each tap."""
    (B, N), (h, w) = weights.shape[:2], low
    places = weights.reshape(B, N, h, rows, w, columns).permute(0, 3, 5, 1, 2, 4)
    matrix = _interpolation_by_place(K, rows, columns, weights)  # [a b, (K + 2)^2, K K]
    if groups == 1:
        kernel = matrix @ places.reshape(B, rows * columns, N, h * w)
        return kernel.reshape(B, rows * columns, (K + 2) ** 2, h, w).permute(0, 3, 4, 2, 1)
    kernel = matrix[:, None] @ places.reshape(B, rows * columns, groups, K * K, h * w)
    return kernel.reshape(B, rows * columns, groups, (K + 2) ** 2, h, w).permute(0, 4, 5, 2, 3, 1)


def _interpolation_by_place(K: int, rows: int, columns: int, like: Tensor) -> Tensor:
    """[a b, (K + 2)^2, K K]: the bilinear weights of the taps around each of a pixel's K x K neighbours."""
    axes = []
    for ratio in (rows, columns):
        axis = torch.zeros((ratio, K + 2, K), dtype=torch.float64)
        for place in range(ratio):
            beyond = 2 * place + 1 - ratio  # twice the ratio times the distance from the centre
            cell = beyond // (2 * ratio)
            fraction = beyond / (2 * ratio) - cell
            for n in range(K):
                axis[place, n + 1 + cell, n] += 1 - fraction
                axis[place, n + 2 + cell, n] += fraction
        axes.append(axis)
    both = axes[0][:, None, :, None, :, None] * axes[1][None, :, None, :, None, :]
    return both.reshape(rows * columns, (K + 2) ** 2, K * K).to(like)


def _by_cell(padded: Tensor, kernel: Tensor, M: int, rows: int, columns: int) -> Tensor:
    """[B, h, w, (G,) M M, a b] -> [B, C, h, a, w, b]: each pixel's weighted sum of its cell's window."""
    groups = kernel.shape[3] if kernel.dim() == 6 else 1
    windows = _windows(padded, M, groups)
    out = (windows.mT @ kernel).unflatten(-1, (rows, columns))  # [B, h, w, (G,) C / G, a, b]
    if groups == 1:
        return out.permute(0, 3, 1, 4, 2, 5)
    return out.permute(0, 3, 4, 1, 5, 2, 6).flatten(1, 2)


def _windows(padded: Tensor, M: int, groups: int) -> Tensor:
    """[B, C, rows + M - 1, columns + M - 1] -> [B, rows, columns, (G,) M M, C / G]: the window of each cell."""
    x = padded.permute(0, 2, 3, 1)
    x = torch.cat([_shifted(x, 2, n, M) for n in range(M)], 3)
    x = torch.cat([_shifted(x, 1, n, M) for n in range(M)], 3)
    x = x.unflatten(3, (M * M, -1))
    return x if groups == 1 else x.unflatten(4, (groups, -1)).transpose(3, 4)


def _shifted(x: Tensor, dim: int, n: int, M: int) -> Tensor:
    """x[n], x[n + 1], ... along an axis, M - 1 places less; the ends are numbers, whatever the size."""
    index = [slice(None)] * x.dim()
    index[dim] = slice(n, n - (M - 1) or None)
    return x[tuple(index)]


def _shifts_instead(x: Tensor, h: int, w: int, neighbours: str) -> bool:
    """At the ratio 1 a cell is one pixel, and its window a copy of the map for every tap."""
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
    """The map seen at each of the M x M offsets, [B, G, C / G, H, W]."""
    x = padded.unflatten(1, (groups, -1))
    return [_shifted(rows, 4, n, M) for rows in (_shifted(x, 3, m, M) for m in range(M)) for n in range(M)]
