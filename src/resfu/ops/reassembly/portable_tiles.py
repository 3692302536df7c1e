"""The portable reassembly of "coarse" neighbours at whole ratios, by tiles of T low-resolution pixels in a row.

Windows of neighbouring pixels overlap: T of them read M (T + M - 1) values of the map instead of T M^2. A tile is one
product, [C, values] @ [values, pixels], with zeros where a pixel doesn't see a value: outside Python these cost less
than windows written out one by one. There is always one tile more than w // T, so that no step depends on whether an
example's size happens to be a multiple of T.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_TILE = 8


def by_tile(padded: Tensor, weights: Tensor, M: int, rows: int, columns: int, groups: int) -> Tensor:
    """Each pixel's weighted sum of its low-resolution pixel's window.

    Args:
        padded: [B, C, h + M - 1, w + M - 1].
        weights: [B, groups M M, H, W] with H = rows h, W = columns w.
        M: rows and columns of the window.
        rows: H / h.
        columns: W / w.
        groups: blocks of channels with weights of their own.

    Returns:
        [B, C, H, W].
    """
    (B, C), (H, W), T = padded.shape[:2], weights.shape[-2:], max(_TILE, M - 1)
    h, tiles, pixels = padded.shape[2] - M + 1, (padded.shape[3] - M + 1) // T + 1, T * columns
    windows = _windows(padded, tiles, T, M)  # [B, h, tiles, values, C]
    windows = windows.reshape(B * h * tiles, -1, C)
    kernel = _kernel(weights, (h, tiles), T, M, rows, columns, groups)  # [B h tiles G, values, pixels]
    if groups > 1:
        windows = windows.unflatten(2, (groups, -1)).transpose(1, 2).flatten(0, 1)
    # Not `@`, which becomes an expand whose sizes ExecuTorch gets wrong.
    out = torch.bmm(windows.mT, kernel).reshape(B, h, tiles, C, rows, pixels).permute(0, 3, 1, 4, 2, 5)
    return out.reshape(B, C, H, tiles * pixels)[..., :W]


def _windows(padded: Tensor, tiles: int, T: int, M: int) -> Tensor:
    """[B, h, tiles, M (T + M - 1), C]: in every row a tile's own T values and the first M - 1 of the next one."""
    x = F.pad(padded, (0, 2 * T))[..., : (tiles + 1) * T]
    x = x.reshape(*x.shape[:3], tiles + 1, T).permute(0, 2, 3, 4, 1)
    x = torch.cat([x[:, :, :-1], x[:, :, 1:, : M - 1]], 3)
    return torch.cat([x[:, m : m - (M - 1) or None] for m in range(M)], 3)


def _kernel(weights: Tensor, low: tuple[int, int], T: int, M: int, rows: int, columns: int, groups: int) -> Tensor:
    """[B h tiles G, M (T + M - 1), rows T columns]: what each pixel of a tile takes of each of its values."""
    B, (h, tiles), pixels = weights.shape[0], low, T * columns
    x = weights.reshape(B * groups, M * M, weights.shape[2], weights.shape[3])
    x = F.pad(x, (0, pixels + 1, 0, 0, 0, 1))[..., : tiles * pixels]  # a tap more, whose weights are zeros
    x = x.reshape(B * groups, M * M + 1, h, rows, tiles, pixels).permute(0, 2, 4, 1, 3, 5)  # XNNPACK takes six axes
    x = x.reshape(B * groups * h * tiles, (M * M + 1) * rows * pixels)
    x = x.index_select(1, _places(T, M, rows, columns, x.device))
    shape = (M * (T + M - 1), rows * pixels)
    if groups > 1:
        x = x.reshape(B, groups, h * tiles, -1).transpose(1, 2)
    return x.reshape(-1, *shape)


def _places(T: int, M: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """[M (T + M - 1) rows T columns]: where a value's weight for a pixel stands among [M M + 1, rows, T columns]."""
    pixel = torch.arange(T * columns)
    column = torch.arange(T + M - 1)[:, None] - pixel // columns  # in the pixel's window
    tap = torch.arange(M)[:, None, None] * M + column
    tap = torch.where((column >= 0) & (column < M), tap, M * M)[:, :, None]  # [M, T + M - 1, 1, T columns]
    return ((tap * rows + torch.arange(rows)[:, None]) * T * columns + pixel).flatten().to(device)
