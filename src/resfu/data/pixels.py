"""Convert the stored values of an image file to the RGB pixels that a viewer shows."""

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

# In these formats, further pictures are previews, depth maps, layers or other sizes of the same photo.
_ONE_PHOTO = ("MPO", "PSD", "ICO", "ICNS")
_BITS, _PHOTOMETRIC, _SUBFILE = 258, 262, 254  # TIFF tags
_WHITE_IS_ZERO = 0
_REDUCED_OR_MASK = 1 | 4
# Pillow versions without "I;16" for these formats read 16-bit values as mode "I", with white at 65535.
_SIXTEEN_BITS_IN_INT = ("PNG", "PPM")


def load_shown(image: Image.Image) -> tuple[Image.Image, int]:
    """Decode a file and apply its EXIF orientation.

    Args:
        image: from `Image.open`, not loaded yet.

    Returns:
        The image with its stored values, and the EXIF orientation, 1 to 8; 1 means as stored.

    Raises:
        ValueError: for an animation, or a stack of pictures.
    """
    count = _count_pictures(image)
    if count > 1:
        raise ValueError(
            f"it holds {count} pictures (an animation or a stack) but must hold one; save the picture that you mean "
            "as a file of its own"
        )
    orientation = _orientation(image)
    image.load()
    # Pillow itself turns TIFF files and removes the tag.
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image), orientation


def turn_back(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation: from the shown pixels to the stored ones.

    Args:
        pixels: [H, W, ...], as shown.
        orientation: 1 to 8, from `load_shown`.

    Returns:
        [H, W, ...], for orientations 5 to 8 [W, H, ...].
    """
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    turned = {2: pixels[:, ::-1], 4: pixels[::-1]}.get(orientation, pixels)
    quarters = {3: 2, 6: 1, 7: 2, 8: 3}.get(orientation, 0)  # anticlockwise
    return np.ascontiguousarray(np.rot90(turned, quarters))


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Convert an image to RGB.

    Grey, palette and CMYK images become RGB. Transparent parts are shown on white. 16-bit values are scaled to 8 bits
    from the range of the format, floating point values from 0..1. No colour profile is applied.

    Args:
        image: decoded, see `load_shown`.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError: for values without a defined colour; the message says which, and what to do.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        return np.repeat(_grey(image)[..., None], 3, axis=-1)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_white(image.convert("LA") if image.mode == "La" else image)
    return np.array(image.convert("RGB"))


def _count_pictures(image: Image.Image) -> int:
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format in _ONE_PHOTO:
        return 1
    if image.format == "TIFF":
        pictures = 0
        for page in range(count):
            image.seek(page)
            pictures += not image.tag_v2.get(_SUBFILE, 0) & _REDUCED_OR_MASK  # pyright: ignore[reportAttributeAccessIssue]
        image.seek(0)
        return pictures
    return count


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1  # with damaged EXIF data, viewers show the photo as stored
    return orientation if orientation in range(1, 9) else 1


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"its floating point values go from {low:g} to {high:g}; black to white is 0 to 1: scale them to that, "
                "or save 8 or 16 bits"
            )
        share = values.astype(np.float64)
    elif image.mode == "I" and image.format not in _SIXTEEN_BITS_IN_INT:
        raise ValueError("its values are signed or 32-bit, with no defined white; save 8 or 16 bits")
    else:
        bits = tags.get(_BITS, (16,))[0]
        share = values.astype(np.float64) / (2**bits - 1)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        share = 1 - share
    grey = (share.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    see_through = image.info.get("transparency")
    if isinstance(see_through, int):
        grey[values == see_through] = 255
    return grey


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema()[1] == 0:
        raise ValueError("it is fully transparent; remove its alpha channel to use the colours behind it")
    return np.array(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
