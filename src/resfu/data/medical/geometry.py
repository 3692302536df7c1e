"""The orientation and spacing of the slices that a network sees, and the file that records them."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resfu.files.atomic import write_json

FILE = "geometry.json"
STORED = "stored"  # as an orientation: the axes of the file
AXES = ("LR", "PA", "IS")

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """The orientation and spacing of slices; None if unknown.

    Args:
        orientation: three letters, such as "LAS": the directions (left or right, posterior or anterior, inferior or
            superior) in which a slice's first index, its second, and the slice number grow. "stored": the axes of each
            file, whatever its affine says.
        spacing: voxel spacing along these three axes, in mm, if all scans were resampled to one spacing.

    Raises:
        ValueError: for anything else.
    """

    orientation: str | None = None
    spacing: Sequence[float] | None = None

    def __post_init__(self) -> None:
        letters = self.orientation
        if letters not in (None, STORED) and (
            len(letters) != 3 or not all(sum(letter in pair for letter in letters) == 1 for pair in AXES)
        ):
            raise ValueError(
                f"an orientation is three letters, one of L R, one of P A and one of I S, such as LAS, or {STORED!r}; "
                f"got {letters!r}."
            )
        if self.spacing is None:
            return
        distances = tuple(map(float, self.spacing))
        if len(distances) != 3 or not all(math.isfinite(value) and value > 0 for value in distances):
            raise ValueError(f"a spacing is three distances above 0 in mm, such as 1, 1, 3; got {self.spacing!r}.")
        object.__setattr__(self, "spacing", distances)

    def flipped(self) -> "Geometry":
        """The geometry with the second axis reversed, as after `resfu prepare --flip`."""
        if self.orientation is None or self.orientation == STORED:
            return self
        first, second, third = self.orientation
        pair = next(pair for pair in AXES if second in pair)
        return replace(self, orientation=first + pair[1 - pair.index(second)] + third)

    def plain(self) -> dict[str, Any]:
        """The form for JSON and checkpoints."""
        return {"orientation": self.orientation, "spacing": None if self.spacing is None else list(self.spacing)}

    def over(self, other: "Geometry") -> "Geometry":
        """This geometry, with unknown values taken from the other."""
        return Geometry(self.orientation or other.orientation, self.spacing or other.spacing)

    def agreed(self, other: "Geometry", this_is: str, other_is: str) -> "Geometry":
        """Combine two sources.

        Args:
            other: the second source.
            this_is: name of the first, for the message.
            other_is: name of the second.

        Raises:
            ValueError: if they contradict each other.
        """
        for key, value in self.plain().items():
            second = other.plain()[key]
            if value is not None and second is not None and value != second:
                raise ValueError(
                    f"the {key} of the scans is {value} by {this_is} but {second} by {other_is}: prepare the data with "
                    f"the --{key} that the network was trained with, or train another."
                )
        return self.over(other)


def write_geometry(folder: Path, geometry: Geometry) -> None:
    """Write the geometry into a folder of prepared data, unless it is unknown."""
    if geometry != Geometry():
        write_json(folder / FILE, geometry.plain(), indent=None)


def read_geometry(folder: Path) -> Geometry:
    """Read the geometry of a folder of prepared data; it is unknown if the folder has no such file.

    Raises:
        ValueError: naming a damaged file.
    """
    path = folder / FILE
    if not path.is_file():
        return Geometry()
    try:
        stored = json.loads(path.read_text(encoding="utf-8-sig"))
        return Geometry(stored["orientation"], stored["spacing"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not give the geometry of the scans ({error}): expected, for example, "
            '{"orientation": "LAS", "spacing": null}.'
        ) from error
