"""From what an image file stores to the RGB pixels that a viewer shows."""

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

# Formats whose further pictures are previews, depth maps, layers or other sizes of the same photo.
_ONE_PHOTO = ("MPO", "PSD", "ICO", "ICNS")
_BITS, _PHOTOMETRIC, _SUBFILE = 258, 262, 254  # tags of TIFF
_WHITE_IS_ZERO = 0
_REDUCED_OR_MASK = 1 | 4
# Pillow scales 16-bit values of these to mode "I" with white at 65535, in versions that have no "I;16" for them.
_SIXTEEN_BITS_IN_INT = ("PNG", "PPM")


def load_shown(image: Image.Image) -> tuple[Image.Image, int]:
    """Decode a file, turned as its EXIF orientation says.

    Args:
        image: as `Image.open` gives it, before it is loaded.

    Returns:
        The picture, with the values that the file stores, and the orientation, 1 to 8; 1 is the picture as stored.

    Raises:
        ValueError: for an animation, or a stack of pictures.
    """
    count = _count_pictures(image)
    if count > 1:
        raise ValueError(
            f"it holds {count} pictures (an animation or a stack), and one is expected; save the one that is meant as "
            "a file of its own"
        )
    orientation = _orientation(image)
    image.load()
    # Pillow turns TIFF files itself, and takes the tag away.
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image), orientation


def turn_back(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The pixels as the file stores them, from those that are shown.

    Args:
        pixels: [H, W, ...], as shown.
        orientation: 1 to 8, as `load_shown` gives it.

    Returns:
        [H, W, ...] or for the orientations 5 to 8 [W, H, ...].
    """
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    turned = {2: pixels[:, ::-1], 4: pixels[::-1]}.get(orientation, pixels)
    quarters = {3: 2, 6: 1, 7: 2, 8: 3}.get(orientation, 0)  # anticlockwise
    return np.ascontiguousarray(np.rot90(turned, quarters))


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The colours of a picture.

    Grey, palettes and CMYK become RGB. Transparent parts are shown on white. 16-bit values are brought to 8 bits by
    the range of the format, floating point ones by 0..1; no colour profile is applied.

    Args:
        image: decoded, see `load_shown`.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError: for values that have no colour, or several, saying which and what to do.
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
        return 1  # a viewer shows a photo whose EXIF data are damaged as it is stored
    return orientation if orientation in range(1, 9) else 1


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"its values are floating point, {low:g} to {high:g}, of which only 0 to 1 means black to white; scale "
                "them to that, or save 8 or 16 bits"
            )
        share = values.astype(np.float64)
    elif image.mode == "I" and image.format not in _SIXTEEN_BITS_IN_INT:
        raise ValueError("its values are signed or of 32 bits, and nothing says which is white; save 8 or 16 bits")
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
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema()[1] == 0:
        raise ValueError("it is transparent everywhere; take its alpha channel away to use the colours behind it")
    return np.array(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))
