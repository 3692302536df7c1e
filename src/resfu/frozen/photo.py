"""Read photos, with their EXIF orientation applied."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def read_photo(path: Path) -> NDArray[np.uint8]:
    """A photo as uint8 [H, W, 3].

    Raises:
        ValueError: if the file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
