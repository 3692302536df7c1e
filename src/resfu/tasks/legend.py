"""A label map over its photo, with a legend."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from resfu.visualize import Picture, colour_labels, overlay

_ROW, _PAD = 20, 6  # pixels


def over_photo(photo: Picture, label_map: Tensor, classes: Sequence[str], palette: Sequence[Sequence[int]]) -> Picture:
    """Draw the colours of the classes over a photo, with a legend of the classes in it below.

    Args:
        photo: uint8 [H, W, 3].
        label_map: [H, W], integers.
        classes: their names.
        palette: RGB of each.

    Returns:
        uint8 [H + legend, W, 3].

    Raises:
        ValueError: for a map of another size than the photo.
    """
    colours = torch.tensor(palette, dtype=torch.uint8)
    present, counts = label_map.unique(return_counts=True)
    order = counts.argsort(descending=True).tolist()
    entries = [(classes[int(present[i])], palette[int(present[i])], 100 * int(counts[i])) for i in order]
    words = [(f"{name} {count / label_map.numel():.0f} %", tuple(colour)) for name, colour, count in entries]
    shown = overlay(photo, colour_labels(label_map, colours))
    return np.concatenate([shown, _legend(words, photo.shape[1])])


def _legend(entries: Sequence[tuple[str, tuple[int, ...]]], width: int) -> Picture:
    """Draw coloured squares with their names, in as many rows as the width requires."""
    font = ImageFont.load_default(12)
    places: list[tuple[int, int]] = []
    x, row = _PAD, 0
    for words, _ in entries:
        length = _ROW + round(font.getlength(words)) + 2 * _PAD
        if x > _PAD and x + length > width:
            x, row = _PAD, row + 1
        places.append((x, _PAD + row * _ROW))
        x += length
    strip = Image.new("RGB", (width, 2 * _PAD + (row + 1) * _ROW), "white")
    pen = ImageDraw.Draw(strip)
    for (words, colour), (left, top) in zip(entries, places, strict=True):
        pen.rectangle((left, top + 3, left + 13, top + 16), fill=colour, outline="black")
        pen.text((left + _ROW, top + 3), words, "black", font)
    return np.asarray(strip)
