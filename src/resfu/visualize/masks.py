"""Label maps as pictures: colours by class, overlays, and where a prediction is wrong."""

import numpy as np
import torch
from torch import Tensor

from resfu.visualize.picture import Picture

CORRECT = (168, 184, 168)
WRONG = (214, 40, 40)
IGNORED = (40, 40, 40)


def colour_labels(labels: Tensor, palette: Tensor, ignore_index: int = 255) -> Picture:
    """Paint every pixel in the colour of its class.

    Args:
        labels: [H, W], integers: classes, or `ignore_index`.
        palette: uint8 [num_classes, 3].
        ignore_index: the label without a class; it is painted dark.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError: for a label that is neither a class nor `ignore_index`.
    """
    labels = torch.as_tensor(labels).cpu().long()
    ignored = labels == ignore_index
    strange = labels[~ignored & ((labels < 0) | (labels >= len(palette)))]
    if strange.numel():
        raise ValueError(
            f"label {int(strange[0])} has no colour: expected 0 to {len(palette) - 1}, or {ignore_index} to ignore."
        )
    table = torch.cat([palette.cpu().to(torch.uint8), torch.tensor([IGNORED], dtype=torch.uint8)])
    return table[labels.masked_fill(ignored, len(palette))].numpy()


def overlay(image: Picture, colours: Picture, opacity: float = 0.5) -> Picture:
    """Lay one picture over another of the same size: (1 - opacity) image + opacity colours."""
    if image.shape != colours.shape:
        raise ValueError(f"overlay needs two pictures of one size, got {image.shape} and {colours.shape}.")
    mixed = image.astype(np.float32) * (1 - opacity) + colours.astype(np.float32) * opacity
    return mixed.round().clip(0, 255).astype(np.uint8)


def error_map(prediction: Tensor, labels: Tensor, ignore_index: int = 255) -> Picture:
    """Show where a prediction is right (grey-green), wrong (red) or not counted (dark).

    Args:
        prediction: [H, W], integers.
        labels: [H, W], integers.
        ignore_index: the label that does not count.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError: for maps of differing sizes.
    """
    prediction, labels = torch.as_tensor(prediction).cpu(), torch.as_tensor(labels).cpu()
    if prediction.shape != labels.shape:
        raise ValueError(
            f"prediction and labels must have one size, got {list(prediction.shape)} and {list(labels.shape)}."
        )
    kind = torch.where(labels == ignore_index, 2, (prediction != labels).long())
    return torch.tensor([CORRECT, WRONG, IGNORED], dtype=torch.uint8)[kind].numpy()
