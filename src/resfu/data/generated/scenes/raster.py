"""Rasterise the outlines of objects to masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw


@dataclass(frozen=True)
class Polygon:
    """A closed outline: points [N, 2] as (x, y). A hole clears what earlier parts of the shape filled."""

    points: np.ndarray
    hole: bool = False


@dataclass(frozen=True)
class Stroke:
    """A line through points [N, 2] as (x, y), `width` wide in the same unit."""

    points: np.ndarray
    width: float


Shape = Sequence[Polygon | Stroke]


@dataclass(frozen=True)
class Placement:
    """How a shape is placed: mirrored, turned by `angle` (radians), scaled (pixels per unit), moved to (x, y)."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    angle: float = 0.0
    mirrored: bool = False

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Map points [N, 2] from the shape's frame to pixels."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        matrix = self.scale * np.array([[cosine, sine], [-sine, cosine]])
        if self.mirrored:
            matrix[0] = -matrix[0]
        return points @ matrix + (self.x, self.y)


@dataclass(frozen=True)
class Stamp:
    """The part of the canvas that a layer covers: a bool mask [rows, columns] at (top, left)."""

    top: int
    left: int
    mask: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the window in the canvas."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def rasterise(shape: Shape, placement: Placement, height: int, width: int) -> Stamp | None:
    """Fill a shape.

    Args:
        shape: its parts, drawn one after the other.
        placement: on the canvas.
        height: height of the canvas in pixels.
        width: width of the canvas in pixels.

    Returns:
        The stamp, clipped to the canvas; None if the shape lies outside.
    """
    outlines = [placement.apply(part.points) for part in shape]
    # A line of 2 pixels is still connected, at 1 pixel, when the canvas is halved to the output.
    widths = [max(2, round(part.width * placement.scale)) if isinstance(part, Stroke) else 0 for part in shape]
    points = np.concatenate(outlines)
    left, top = np.maximum(np.floor(points.min(0)).astype(int) - max(widths), 0).tolist()
    right, bottom = np.minimum(np.ceil(points.max(0)).astype(int) + max(widths) + 1, (width, height)).tolist()
    if right <= left or bottom <= top:
        return None
    image = Image.new("L", (right - left, bottom - top))
    pen = ImageDraw.Draw(image)
    for part, outline, line_width in zip(shape, outlines, widths, strict=True):
        corners = [(float(x), float(y)) for x, y in outline - (left, top)]
        if isinstance(part, Stroke):
            pen.line(corners, fill=1, width=line_width, joint="curve")
        else:
            pen.polygon(corners, fill=0 if part.hole else 1)
    mask = np.asarray(image, dtype=bool)
    return Stamp(top, left, mask) if mask.any() else None
