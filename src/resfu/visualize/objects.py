"""Objects and panoptic segments as pictures: one colour each, outlined, over the image."""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from resfu.visualize.picture import Picture

_OPACITY = 0.5
_OUTLINE = (255, 255, 255)
# Hues spaced by this fraction of the colour circle stay distinct for many objects.
_GOLDEN = 0.618033988749895


def draw_instances(image: Picture, masks: NDArray[np.bool_], captions: Sequence[str] = ()) -> Picture:
    """Paint objects over an image, each in a colour of its own, the first on top.

    Args:
        image: uint8 [H, W, 3].
        masks: bool [N, H, W], the best first.
        captions: one for each object, written where the object begins; empty for no captions.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError: for masks of another size than the image, or captions of another number.
    """
    _check_size(image, masks)
    if captions and len(captions) != len(masks):
        raise ValueError(f"every object needs a caption: got {len(captions)} for {len(masks)}.")
    drawn = image.astype(np.float32)
    for number in reversed(range(len(masks))):
        inside = masks[number]
        drawn[inside] = image[inside] * (1 - _OPACITY) + np.array(_colour(number)) * _OPACITY
        drawn[inside & _edges(inside)] = _OUTLINE
    painted = Image.fromarray(drawn.round().astype(np.uint8))
    canvas, font = ImageDraw.Draw(painted), ImageFont.load_default(11)
    for number, words in enumerate(captions):
        rows, columns = np.nonzero(masks[number])
        if len(rows):
            canvas.text(
                (int(columns.min()) + 2, int(rows.min()) + 1), words, "white", font, stroke_width=1, stroke_fill="black"
            )
    return np.asarray(painted)


def draw_panoptic(
    image: Picture,
    ids: NDArray[np.integer[Any]],
    segments: Sequence[Mapping[str, Any]],
    colours: Sequence[Sequence[int]],
) -> Picture:
    """Paint panoptic segments over an image: stuff in the colour of its class, things in colours of their own.

    Args:
        image: uint8 [H, W, 3].
        ids: [H, W], the id of the segment at each pixel; 0 is void, which stays dark.
        segments: "id", "category_id" and "isthing" of each.
        colours: RGB by category.

    Returns:
        uint8 [H, W, 3], outlined between segments.

    Raises:
        ValueError: for ids of another size than the image.
    """
    _check_size(image, ids)
    colour_of = np.zeros((*ids.shape, 3), dtype=np.float32)
    for number, segment in enumerate(segments):
        colour = _colour(number) if segment["isthing"] else colours[segment["category_id"]]
        colour_of[ids == segment["id"]] = colour
    drawn = image * (1 - _OPACITY) + colour_of * _OPACITY
    drawn[_edges(ids)] = _OUTLINE
    return drawn.round().astype(np.uint8)


def _colour(number: int) -> tuple[float, float, float]:
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.85, 1.0)
    return 255 * red, 255 * green, 255 * blue


def _edges(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """The pixels whose right or lower neighbour has another label; for boolean masks, also these neighbours."""
    edges = np.zeros(labels.shape, dtype=np.bool_)
    for axis in (0, 1):
        changes = np.diff(labels.astype(np.int64), axis=axis) != 0
        before = [slice(None)] * 2
        before[axis] = slice(None, -1)
        edges[tuple(before)] |= changes
        if labels.dtype == np.bool_:
            after = [slice(None)] * 2
            after[axis] = slice(1, None)
            edges[tuple(after)] |= changes
    return edges


def _check_size(image: Picture, maps: NDArray[Any]) -> None:
    if maps.shape[-2:] != image.shape[:2]:
        raise ValueError(f"maps must have the image's size, got {list(maps.shape[-2:])} and {list(image.shape[:2])}.")
