"""Colours for classes without colours of their own."""

import torch
from torch import Tensor


def voc_palette(count: int) -> Tensor:
    """The colours of the Pascal VOC development kit.

    Args:
        count: number of classes, at most 256.

    Returns:
        uint8 [count, 3]. Bits 0, 1, 2 of a class are the highest bits of its red, green and blue, bits 3, 4, 5 the
        next, and so on.
    """
    label = torch.arange(count)[:, None]
    channel = torch.arange(3)
    colours = sum(((label >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3))
    return torch.as_tensor(colours).to(torch.uint8)
