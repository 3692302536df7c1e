"""Convert images of several types to a tensor in 0..1."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def images_of(image: Any) -> Tensor:
    """Convert to float32 [B, 3, H, W] in 0..1.

    Args:
        image: [B, 3, H, W] or [3, H, W], floating point in 0..1 or uint8; an array [H, W, 3] of uint8; a PIL image; or
            the path of an image file. Values of 16 bits are scaled to 0..1; transparent parts become white.

    Raises:
        ValueError: for anything else, or a file that cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        from resfu.data.image_files import read_image

        image = read_image(Path(image))
    elif hasattr(image, "convert"):
        from resfu.data.pixels import load_shown, to_rgb

        try:
            image = to_rgb(load_shown(image)[0])
        except ValueError as error:
            raise ValueError(f"the image of mode {image.mode} cannot be used: {error}.") from error
    if not isinstance(image, Tensor):
        if getattr(image, "ndim", 0) != 3 or image.shape[2] != 3 or str(image.dtype) != "uint8":
            raise ValueError(
                f"an image is a tensor [B, 3, H, W], an array [H, W, 3] of uint8, a PIL image or a path, got "
                f"{type(image).__name__} {getattr(image, 'dtype', '')} {getattr(image, 'shape', '')}."
            )
        image = torch.from_numpy(image.copy()).permute(2, 0, 1)  # a copy, because strides may be negative
    if image.dim() == 3:
        image = image[None]
    if image.dim() != 4 or image.shape[1] != 3 or min(image.shape[-2:]) < 2:
        raise ValueError(f"images must be [B, 3, H, W] or [3, H, W] of 2 pixels or more, got {list(image.shape)}.")
    if image.dtype == torch.uint8:
        return image.float() / 255
    if not image.is_floating_point():
        raise ValueError(f"images must be uint8, or floating point in 0..1, got {image.dtype}.")
    if image.numel():
        low, high = (number.item() for number in image.aminmax())
        if not (low >= -0.3 and high <= 1.3):  # not 0 and 1, because bicubic resizing may exceed them
            raise ValueError(
                f"images in floating point must be in 0..1, got {low:g} to {high:g}: divide by 255, or leave out the "
                "normalisation, which the encoder has."
            )
    return image.float()
