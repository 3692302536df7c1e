"""The portable reassembly of "coarse" neighbours at whole ratios, by tiles of T low-resolution pixels in a row.

Windows of neighbouring pixels overlap: T of them together read M (T + M - 1) values of the map instead of T M^2. The
sum of a tile is one product, [pixels, values] @ [values, C], with weight 0 for values outside a pixel's window. In
other runtimes these zeros cost less than copying every window. There always are w // T + 1 tiles, so that no step
depends on whether the example's size is a multiple of T.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_TILE = 8


def by_tile(padded: Tensor, weights: Tensor, M: int, rows: int, columns: int, groups: int) -> Tensor:
    """Sum the window of each pixel's low-resolution pixel with the pixel's weights.

    Args:
        padded: [B, C, h + M - 1, w + M - 1].
        weights: [B, groups M M, H, W] with H = rows h, W = columns w.
        M: rows and columns of the window.
        rows: H / h.
        columns: W / w.
        groups: number of blocks of channels, each with weights of its own.

    Returns:
        [B, C, H, W].
    """
    (B, C), W, T = padded.shape[:2], weights.shape[3], max(_TILE, M - 1)
    h, tiles, pixels = padded.shape[2] - M + 1, (padded.shape[3] - M + 1) // T + 1, T * columns
    windows = _windows(padded, tiles, T, M)  # [B h tiles, values, C]
    kernel = _kernel(weights, (h, tiles), T, M, rows, columns, groups)  # [B h tiles G, pixels, values]
    if groups > 1:
        windows = windows.unflatten(2, (groups, -1)).transpose(1, 2).flatten(0, 1)
    # Not `@`: it is exported with an `expand`, whose sizes ExecuTorch computes wrongly.
    out = torch.bmm(kernel, windows)
    if groups > 1:
        out = out.unflatten(0, (-1, groups)).transpose(1, 2)
    out = out.reshape(-1, tiles, rows, pixels * C).transpose(1, 2)
    # `contiguous` would fix the number of tiles if the example has one, and `reshape` would compute the size for -1.
    out = out.clone(memory_format=torch.contiguous_format)
    return out.view(B, -1, tiles * pixels, C)[:, :, :W].permute(0, 3, 1, 2)


def _windows(padded: Tensor, tiles: int, T: int, M: int) -> Tensor:
    """Values of the tiles [B h tiles, M (T + M - 1), C]: in every row, a tile's T values and the next M - 1 values.

    They are read by slices: an index tensor would be broadcast over the tiles, which fixes their number if it is 1.
    """
    x = F.pad(padded, (0, 2 * T))[..., : (tiles + 1) * T]
    x = x.clone(memory_format=torch.contiguous_format).view(*x.shape[:2], -1, tiles + 1, T).permute(0, 2, 3, 4, 1)
    x = torch.cat([x[:, :, :-1], x[:, :, 1:, : M - 1]], 3)
    x = torch.cat([x[:, m : m - (M - 1) or None] for m in range(M)], 3)
    return x.reshape(-1, M * (T + M - 1), x.shape[4])


def _kernel(weights: Tensor, low: tuple[int, int], T: int, M: int, rows: int, columns: int, groups: int) -> Tensor:
    """Weight of each of a tile's values in each of its pixels, [B h tiles G, rows T columns, M (T + M - 1)]."""
    B, (h, tiles), pixels = weights.shape[0], low, T * columns
    x = weights.unflatten(1, (groups, -1)).flatten(0, 1) if groups > 1 else weights
    x = F.pad(x, (0, pixels + 1, 0, 0, 0, 1))[..., : tiles * pixels]  # one more tap, with weight 0
    x = x.reshape(B * groups, M * M + 1, -1, rows, tiles, pixels).permute(0, 2, 4, 1, 3, 5)  # XNNPACK takes six axes
    x = x.reshape(-1, (M * M + 1) * rows * pixels)
    x = x.index_select(1, _places(T, M, rows, columns, x.device))
    shape = (rows * pixels, M * (T + M - 1))
    if groups > 1:
        x = x.reshape(B, groups, h * tiles, -1).transpose(1, 2)
    return x.reshape(-1, *shape)


def _places(T: int, M: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Indices [rows T columns M (T + M - 1)] of each value's weight in each pixel, in [M M + 1, rows, T columns]."""
    pixel = torch.arange(T * columns, device=device)[:, None, None]
    column = torch.arange(T + M - 1, device=device) - pixel // columns  # in the pixel's window
    tap = torch.arange(M, device=device)[:, None] * M + column
    tap = torch.where((column >= 0) & (column < M), tap, M * M)  # [T columns, M, T + M - 1]
    return ((tap * rows + torch.arange(rows, device=device)[:, None, None, None]) * T * columns + pixel).flatten()
