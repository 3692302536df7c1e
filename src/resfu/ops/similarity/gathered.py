"""All taps of a map side by side, so that one operation reads them: a graph that does not grow with the window."""

import torch
from torch import Tensor

from resfu.ops.grid import sample, window


def gathered_taps(key: Tensor, K: int, step: tuple[int, int]) -> Tensor:
    """The K x K neighbours of every pixel, one LR pixel apart, sampled bilinearly and clamped to the map.

    Args:
        key: [B, D, H, W].
        K: odd.
        step: (h, w), the size of the LR map; H / h and W / w are any real ratios.

    Returns:
        [B, D, H K, W K]: a block of K x K in place of each pixel.
    """
    positions = []
    for P, p in zip(key.shape[-2:], step, strict=True):
        offsets = torch.tensor(window(K), device=key.device, dtype=torch.float64) * P / p
        pixels = torch.arange(P, device=key.device, dtype=torch.float64)
        positions.append((pixels[:, None] + offsets).flatten())
    return sample(key, *positions)
