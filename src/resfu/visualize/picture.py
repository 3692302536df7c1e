"""The picture type that all of `visualize` passes round: a numpy array, uint8 [H, W, 3]."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Picture = NDArray[np.uint8]


def from_normalised(image: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Picture:
    """Undo a network's input normalisation.

    Args:
        image: [3, H, W], (rgb - mean) / std for rgb in 0..1.
        mean: of the three colours.
        std: of the three colours.

    Returns:
        uint8 [H, W, 3].
    """
    shape = (3, 1, 1)
    rgb = image.detach().cpu().float() * torch.tensor(std).view(shape) + torch.tensor(mean).view(shape)
    return rgb.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def enlarge(picture: Picture, size: tuple[int, int]) -> Picture:
    """Repeat pixels up to a size (H, W): low resolution should look like low resolution."""
    rows = np.arange(size[0]) * picture.shape[0] // size[0]
    columns = np.arange(size[1]) * picture.shape[1] // size[1]
    return picture[rows[:, None], columns[None, :]]
