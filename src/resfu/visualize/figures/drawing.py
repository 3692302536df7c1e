"""Pictures and heat maps in a grid, as one PNG file. matplotlib is imported when a figure is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from resfu.files.atomic import replacing
from resfu.visualize.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Both run evenly from dark to bright: equal steps of a value look equal.
_WEIGHTS, _DIFFERENCES = "viridis", "magma"
_WIDTH = 3.6  # inches of a place


@dataclass(frozen=True)
class Shown:
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
    """A map of one number a pixel, in the grid, with its scale.

    Attributes:
        values: [H, W].
        title: above it.
        numbers: write the value into each cell.
        limits: values of the darkest and brightest colour; default: the least and the largest.
    """

    values: Tensor
    title: str
    numbers: bool = False
    limits: tuple[float, float] | None = None


Place = Shown | Heat | None


def save_figure(rows: Sequence[Sequence[Place]], title: str, caption: str, path: Path) -> Path:
    """Draw a grid and write it.

    Args:
        rows: the grid; None leaves a place empty.
        title: above the grid.
        caption: below the title.
        path: of the PNG file; its folder is made when it is not there.

    Returns:
        The path.

    Raises:
        ValueError: for a grid without anything in it.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    first = next((place for row in rows for place in row if place is not None), None)
    if first is None:
        raise ValueError("a figure needs at least one picture, got none.")
    columns = max(len(row) for row in rows)
    tall, wide = _shape(first)
    place_height = min(max(_WIDTH * tall / wide, 1.5), 2 * _WIDTH)
    with rc_context({"font.size": 11, "axes.titlesize": 11}):
        size = (columns * _WIDTH, len(rows) * (place_height + 0.35) + 0.9)
        figure = Figure(figsize=size, layout="compressed")
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for i, row in enumerate(rows):
            for j in range(columns):
                _fill(axes[i, j], row[j] if j < len(row) else None)
        figure.suptitle(f"{title}\n{caption}", fontsize=12)
        with replacing(path) as draft:
            figure.savefig(draft, dpi=110, bbox_inches="tight", pad_inches=0.15)
    return path


def _shape(place: Shown | Heat) -> tuple[int, int]:
    array = place.picture if isinstance(place, Shown) else place.values
    return array.shape[0], array.shape[1]


def _fill(axes: Axes, place: Place) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if place is None:
        axes.set_axis_off()
        return
    axes.set_title(place.title)
    if isinstance(place, Shown):
        # Shrinking averages, enlarging repeats pixels: what a map holds can be seen.
        axes.imshow(place.picture, interpolation="auto")
        for row, column, letters in place.marks:
            style = {"facecolor": "black", "edgecolor": "white", "boxstyle": "circle,pad=0.2"}
            axes.plot(column, row, "o", color="white", markeredgecolor="black", markersize=6)
            axes.annotate(
                letters, (column, row), (9, 9), textcoords="offset points", color="white", weight="bold", bbox=style
            )
        return
    values = place.values.detach().cpu().float().numpy()
    low, high = place.limits or (float(values.min()), float(values.max()))
    image = axes.imshow(values, cmap=_WEIGHTS if place.numbers else _DIFFERENCES, vmin=low, vmax=high)
    axes.figure.colorbar(image, cax=axes.inset_axes((1.02, 0, 0.04, 1)))
    if place.numbers:
        middle = (low + high) / 2
        for (row, column), value in np.ndenumerate(values):
            colour = "black" if value > middle else "white"
            axes.text(column, row, f"{value:.2f}", color=colour, ha="center", va="center")
