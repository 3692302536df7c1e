"""Pictures side by side on one sheet, with captions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from resfu.visualize.picture import Picture

_BACKGROUND = (255, 255, 255)
_INK = (34, 34, 34)


@dataclass(frozen=True)
class Panel:
    """One picture (uint8 [H, W, 3]) and the words under it."""

    picture: Picture
    caption: str


def draw_sheet(
    rows: Sequence[Sequence[Panel | None]], title: str = "", panel_height: int = 240, gap: int = 10
) -> Image.Image:
    """Lay panels out in a grid.

    All panels are brought to one size (the first panel's shape, `panel_height` high). Enlarging repeats pixels, so
    what a map holds can be seen; shrinking averages.

    Args:
        rows: the grid; None leaves a place empty.
        title: a line above the grid.
        panel_height: pixels.
        gap: pixels between panels.

    Returns:
        An RGB image.

    Raises:
        ValueError: for a sheet without a panel.
    """
    first = next((panel for row in rows for panel in row if panel is not None), None)
    if first is None:
        raise ValueError("draw_sheet needs at least one panel, got none.")
    height = panel_height
    width = max(1, round(height * first.picture.shape[1] / first.picture.shape[0]))
    font = ImageFont.load_default(14)
    heading = ImageFont.load_default(18)
    caption_height, title_height = 24, 34 if title else 0
    columns = max(len(row) for row in rows)
    sheet = Image.new(
        "RGB",
        (gap + columns * (width + gap), gap + title_height + len(rows) * (height + caption_height + gap)),
        _BACKGROUND,
    )
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((gap, gap), _shortened(title, heading, sheet.width - 2 * gap), fill=_INK, font=heading)
    for i, row in enumerate(rows):
        top = gap + title_height + i * (height + caption_height + gap)
        for j, panel in enumerate(row):
            if panel is None:
                continue
            left = gap + j * (width + gap)
            sheet.paste(_resized(panel.picture, (width, height)), (left, top))
            draw.text((left, top + height + 3), _shortened(panel.caption, font, width), fill=_INK, font=font)
    return sheet


def _resized(picture: Picture, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    enlarging = size[0] >= image.width and size[1] >= image.height
    return image.resize(size, Image.Resampling.NEAREST if enlarging else Image.Resampling.BOX)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
