"""How the slices that a network sees lie in the patient, and the file of prepared data that says so."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resfu.files.atomic import write_json

FILE = "geometry.json"
STORED = "stored"  # for an orientation: the axes as the file has them
AXES = ("LR", "PA", "IS")

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """Where slices point, and how far their voxels lie apart; None where that is not known.

    Args:
        orientation: three letters, such as "LAS": the directions (left or right, posterior or anterior, inferior or
            superior) in which a slice's first index, its second, and the number of the slice grow. "stored": the axes
            as each file has them, whatever its affine says.
        spacing: the distances of the voxels along these three, in mm, if all scans were brought to one.

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
        """With the second axis reversed, as `resfu prepare --flip` stores it."""
        if self.orientation is None or self.orientation == STORED:
            return self
        first, second, third = self.orientation
        pair = next(pair for pair in AXES if second in pair)
        return replace(self, orientation=first + pair[1 - pair.index(second)] + third)

    def plain(self) -> dict[str, Any]:
        """As JSON and a checkpoint hold it."""
        return {"orientation": self.orientation, "spacing": None if self.spacing is None else list(self.spacing)}

    def over(self, other: "Geometry") -> "Geometry":
        """This one, with the other's values where it has none."""
        return Geometry(self.orientation or other.orientation, self.spacing or other.spacing)

    def agreed(self, other: "Geometry", this_is: str, other_is: str) -> "Geometry":
        """What two sources say together.

        Args:
            other: what the second says.
            this_is: what the first is called, for the message.
            other_is: what the second is called.

        Raises:
            ValueError: where they contradict one another.
        """
        for key, value in self.plain().items():
            second = other.plain()[key]
            if value is not None and second is not None and value != second:
                raise ValueError(
                    f"the {key} of the scans is {value} by {this_is} and {second} by {other_is}: prepare the data with "
                    f"--{key} as the network was trained, or train another."
                )
        return self.over(other)


def write_geometry(folder: Path, geometry: Geometry) -> None:
    """Write the file into a folder of prepared data; nothing where it is not known how the slices lie."""
    if geometry != Geometry():
        write_json(folder / FILE, geometry.plain(), indent=None)


def read_geometry(folder: Path) -> Geometry:
    """What a folder of prepared data says; nothing is known of one that was prepared elsewhere.

    Raises:
        ValueError: for a damaged file, naming it.
    """
    path = folder / FILE
    if not path.is_file():
        return Geometry()
    try:
        stored = json.loads(path.read_text(encoding="utf-8-sig"))
        return Geometry(stored["orientation"], stored["spacing"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not say how the scans lie ({error}): expected such as "
            '{"orientation": "LAS", "spacing": null}.'
        ) from error
