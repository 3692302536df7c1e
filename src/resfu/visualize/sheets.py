"""Pictures and heat maps in a grid, as one PNG file. matplotlib is imported when a sheet is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from resfu.files.atomic import replacing
from resfu.visualize.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

# Both run evenly from dark to bright: equal steps of a value look equal.
_WEIGHTS, _DIFFERENCES = "viridis", "magma"
_DPI = 100
_WIDTH, _LEAST, _MOST = 360, 150, 720  # pixels: the width of a place, the limits of its height
_GAP, _TITLE, _LINE, _BAR = 12, 22, 24, 58  # a title stands above its place; a colour bar at the right, inside
_SAME_SHAPE = 0.9


@dataclass(frozen=True)
class Panel:
    """A picture in the grid.

    Attributes:
        picture: uint8 [H, W, 3].
        title: above it.
        marks: (row, column, letters) of points to name in it.
    """

    picture: Picture
    title: str
    marks: Sequence[tuple[int, int, str]] = ()


@dataclass(frozen=True)
class Heat:
    """A map with one number for each pixel, drawn in the grid as colours with a colour bar.

    Attributes:
        values: [H, W].
        title: above it.
        numbers: write the value into each cell.
        limits: the values shown by the darkest and the brightest colour; default: the smallest and the largest value.
    """

    values: Tensor
    title: str
    numbers: bool = False
    limits: tuple[float, float] | None = None


Place = Panel | Heat | None


def save_sheet(rows: Sequence[Sequence[Place]], title: str, path: Path, caption: str = "") -> Path:
    """Draw a grid and write it to a PNG file.

    All places have one size, with the shape of the first picture. Enlarging repeats pixels, so that low resolution
    looks like low resolution; shrinking averages.

    Args:
        rows: the grid; None leaves a place empty.
        title: above the grid.
        path: of the PNG file; its folder is made when it is not there.
        caption: below the title.

    Returns:
        The path.

    Raises:
        ValueError: for a grid without anything in it.

    Examples:
        >>> import numpy as np
        >>> red = Panel(np.full((8, 16, 3), (255, 0, 0), np.uint8), "red")
        >>> save_sheet([[red, None], [red, red]], "a title", getfixture("tmp_path") / "sheet.png").name
        'sheet.png'
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = next((place for row in rows for place in row if place is not None), None)
    if first is None:
        raise ValueError("a sheet needs at least one picture, got none.")
    tall, wide = _shape(first)
    height = round(min(max(_WIDTH * tall / wide, _LEAST), _MOST))
    lines = [title, *filter(None, caption.split("\n"))]
    top = _GAP + len(lines) * _LINE
    size = (_GAP + max(map(len, rows)) * (_WIDTH + _GAP), top + len(rows) * (_TITLE + height + _GAP))
    with rc_context({"font.size": 10}):
        figure = Figure((size[0] / _DPI, size[1] / _DPI), dpi=_DPI)
        FigureCanvasAgg(figure)  # knows how wide words are
        sheet = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0), facecolor="none", zorder=1)
        sheet.set_axis_off()
        for n, line in enumerate(lines):
            text = sheet.text(_GAP, _GAP + n * _LINE, line, va="top", size=11 if n else 13, parse_math=False)
            _cut(text, size[0] - 2 * _GAP)
        for i, row in enumerate(rows):
            for j, place in enumerate(row):
                corner = (_GAP + j * (_WIDTH + _GAP), top + i * (_TITLE + height + _GAP) + _TITLE)
                if place is not None:
                    _cut(sheet.text(corner[0], corner[1] - 5, place.title), _WIDTH)
                if isinstance(place, Panel):
                    _draw_panel(sheet, place, corner, height)
                elif isinstance(place, Heat):
                    _draw_heat(sheet, place, corner, height)
        with replacing(path) as draft:
            figure.savefig(draft, dpi=_DPI, format="png")
    return path


def _shape(place: Panel | Heat) -> tuple[int, int]:
    array = place.picture if isinstance(place, Panel) else place.values
    return array.shape[0], array.shape[1]


def _draw_panel(sheet: Axes, panel: Panel, corner: tuple[int, int], height: int) -> None:
    width, height = _paste(sheet, panel.picture, corner, (_WIDTH, height))
    rows, columns = _shape(panel)
    for row, column, letters in panel.marks:
        at = (corner[0] + (column + 0.5) * width / columns, corner[1] + (row + 0.5) * height / rows)
        sheet.plot(*at, "o", color="white", markeredgecolor="black", markersize=6)
        box = {"facecolor": "black", "edgecolor": "white", "boxstyle": "circle,pad=0.2"}
        sheet.annotate(letters, at, (9, 9), textcoords="offset points", color="white", weight="bold", bbox=box)


def _draw_heat(sheet: Axes, heat: Heat, corner: tuple[int, int], height: int) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    values = heat.values.detach().cpu().float().numpy()
    low, high = heat.limits or (float(values.min()), float(values.max()))
    scale = ScalarMappable(Normalize(low, high), colormaps[_WEIGHTS if heat.numbers else _DIFFERENCES])
    colours = scale.to_rgba(values, bytes=True)[..., :3]
    width, height = _paste(sheet, colours, corner, (_WIDTH - _BAR, height))
    whole = sheet.get_xlim()[1], sheet.get_ylim()[0]
    bar = (corner[0] + width + 6) / whole[0], 1 - (corner[1] + height) / whole[1], 10 / whole[0], height / whole[1]
    sheet.figure.colorbar(scale, cax=sheet.figure.add_axes(bar))
    if heat.numbers:
        cell = width / values.shape[1], height / values.shape[0]
        for (row, column), value in np.ndenumerate(values):
            colour = "black" if value > (low + high) / 2 else "white"
            at = corner[0] + (column + 0.5) * cell[0], corner[1] + (row + 0.5) * cell[1]
            sheet.text(*at, f"{value:.2f}", color=colour, ha="center", va="center")


def _paste(sheet: Axes, picture: Picture, corner: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """Draw a picture as large as there is room, without interpolation; returns its width and height in pixels."""
    from matplotlib.figure import Figure

    times = min(room[0] / picture.shape[1], room[1] / picture.shape[0])
    width, height = (max(1, round(n * times)) for n in (picture.shape[1], picture.shape[0]))
    if min(width / room[0], height / room[1]) > _SAME_SHAPE:  # a map of few pixels that shows the same photo
        width, height = room
    image = Image.fromarray(np.ascontiguousarray(picture))
    image = image.resize((width, height), Image.Resampling.NEAREST if times >= 1 else Image.Resampling.BOX)
    figure = sheet.figure
    assert isinstance(figure, Figure)
    bottom = round(sheet.get_ylim()[0]) - corner[1] - height
    figure.figimage(np.asarray(image), corner[0], bottom, origin="upper")
    return width, height


def _cut(text: Text, width: int) -> None:
    """Shorten a text that is wider than `width` pixels; a text with formulas stays as it is."""
    words = text.get_text()
    if "$" in words and text.get_parse_math():
        return
    while words and text.get_window_extent().width > width:
        words = words[: min(len(words) - 1, int(len(words) * width / text.get_window_extent().width))]
        text.set_text(words + "...")
