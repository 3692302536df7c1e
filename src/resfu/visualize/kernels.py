"""Aggregation kernels, drawn where they act: which low-resolution neighbours a pixel is made of."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from resfu.visualize.picture import Picture

_HEAT = (255, 140, 0)
_PIXEL = (0, 255, 255)


def draw_kernels(
    picture: Picture, kernel: Tensor, ratio: tuple[float, float], pixels: Sequence[tuple[int, int]]
) -> Picture:
    """Lay the kernels of some pixels over a picture.

    A kernel is a grid of K x K cells, each as large as a low-resolution pixel. A cell is the more opaque the larger its
    weight; the largest weight of each kernel is fully opaque. The pixel that the kernel belongs to is marked.

    Args:
        picture: uint8 [H, W, 3], at the kernel's resolution or a multiple of it.
        kernel: [K * K, h, w], such as `ReSFU.explain(...)["kernel"][0]`; row-major.
        ratio: (vertical, horizontal) size of a low-resolution pixel, in pixels of the kernel's map.
        pixels: (row, column) in the kernel's map.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError: for a kernel that is not square.
    """
    K = round(kernel.shape[0] ** 0.5)
    if K * K != kernel.shape[0]:
        raise ValueError(f"kernel must be [K * K, H, W], got {list(kernel.shape)}.")
    scale = (picture.shape[0] / kernel.shape[1], picture.shape[1] / kernel.shape[2])
    cell = (ratio[0] * scale[0], ratio[1] * scale[1])
    base = Image.fromarray(picture)
    for row, column in pixels:
        weights = kernel[:, row, column].float()
        opacity = (weights / weights.max().clamp_min(1e-12) * 255).round().int().tolist()
        layer = Image.new("RGBA", base.size)
        draw = ImageDraw.Draw(layer)
        middle = ((row + 0.5) * scale[0], (column + 0.5) * scale[1])
        for n, alpha in enumerate(opacity):
            y, x = (c + (i - K / 2) * size for c, i, size in zip(middle, divmod(n, K), cell, strict=True))
            draw.rectangle((x, y, x + cell[1] - 1, y + cell[0] - 1), fill=(*_HEAT, alpha * 3 // 4), outline=_HEAT)
        y, x = middle
        draw.rectangle((x - 2, y - 2, x + 1, y + 1), fill=_PIXEL)
        base.paste(layer, mask=layer)
    return np.array(base)


def find_edges(picture: Picture, rows: int, columns: int) -> list[tuple[int, int]]:
    """The pixel with the steepest colours in each part of a grid over the picture, away from the part's border.

    Args:
        picture: uint8 [H, W, 3].
        rows: number of rows of the grid.
        columns: number of columns of the grid.

    Returns:
        (row, column) of one pixel in each part.
    """
    x = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    x = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)  # edges of things, not of their texture
    steep = torch.zeros(x.shape[-2:])
    steep[1:-1] += (x[..., 2:, :] - x[..., :-2, :]).abs().sum((0, 1))
    steep[:, 1:-1] += (x[..., 2:] - x[..., :-2]).abs().sum((0, 1))
    found = []
    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    top, left = height // 4, width // 4
    for i in range(rows):
        for j in range(columns):
            y, x0 = i * height + top, j * width + left
            part = steep[y : y + max(1, height - 2 * top), x0 : x0 + max(1, width - 2 * left)]
            row, column = divmod(int(part.argmax()), part.shape[1])
            found.append((y + row, x0 + column))
    return found
