"""COCO files as people write them: omissions are filled in and counted, invalid entries are named."""

import math
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from resfu.data.coco.segmentation import Segmentation, check_segmentation, mask_extent
from resfu.data.unreadable import OnError

Entry = dict[str, Any]
Size = tuple[int, int]


class Repairs:
    """Counts what is filled in or left out of an annotation file, for one warning.

    Args:
        file: for the messages.
        on_error: what to do about an invalid entry: "raise": an error that names it; "skip": leave it out.
    """

    def __init__(self, file: Path, on_error: OnError) -> None:
        self.file = file
        self.on_error = on_error
        self._found: dict[str, list[Any]] = {}  # [count, name of the first]

    def note(self, what: str, where: str) -> None:
        """Count something that was filled in or left out."""
        self._found.setdefault(what, [0, where])[0] += 1

    def refuse(self, where: str, reason: str) -> None:
        """Count an invalid entry as left out; with "raise", raise a ValueError instead."""
        if self.on_error == "raise":
            raise ValueError(f"{where} of {self.file}: {reason} Correct it, or leave it out with on_error='skip'.")
        self.note("left out because they are invalid", f"{where}: {reason.rstrip('.')}")

    def kept(self, kind: str, entries: Any, tidy: Callable[[Entry, str], None]) -> list[Entry]:
        """The valid entries of a list.

        Args:
            kind: the word for an entry in messages.
            entries: a list of the file.
            tidy: completes an entry in place, given its name in messages; raises a ValueError for an invalid one.

        Raises:
            ValueError: if `entries` is not a list; with "raise", for an invalid entry.
        """
        if not isinstance(entries, list):
            raise ValueError(f"{self.file}: its {kind}s must be a list, got {type(entries).__name__}.")
        kept = []
        for place, entry in enumerate(entries):
            known = isinstance(entry, dict) and entry.get("id", entry.get("image_id")) is not None
            where = f"{kind} {entry.get('id', entry.get('image_id'))}" if known else f"the {kind} at place {place}"
            try:
                if not isinstance(entry, dict):
                    raise ValueError(f"it must be an object, got {entry!r}.")
                tidy(entry, where)
            except ValueError as error:
                self.refuse(where, str(error))
            else:
                kept.append(entry)
        return kept

    def warn(self) -> None:
        """Warn once, if anything was counted."""
        if self._found:
            listed = "; ".join(f"{number} {what} (first: {where})" for what, (number, where) in self._found.items())
            warnings.warn(f"{self.file} was completed: {listed}.", stacklevel=4)


def tidy_image(image: Entry, where: str, repairs: Repairs) -> None:
    """Make the sides of an image's record integers; a ValueError says what is missing."""
    if not is_id(image.get("id")) or not isinstance(image.get("file_name"), str):
        raise ValueError("an image needs an id and a file_name.")
    for side in ("height", "width"):
        number = _number(image.get(side), where, repairs)
        if number is None or number < 1 or number != int(number):
            raise ValueError(f"its {side} must be a whole number of pixels, got {image.get(side)!r}.")
        image[side] = int(number)


def is_id(value: Any) -> bool:
    """Whether a value can name an image or a category: a list cannot."""
    return isinstance(value, int | float | str)


def tidy_instance(
    entry: Entry, where: str, repairs: Repairs, sizes: Mapping[Any, Size], categories: Collection[Any]
) -> None:
    """Fill in what an object's annotation omits.

    A missing "iscrowd" becomes 0; a missing "area" or box is computed from the mask. A flat list of numbers is read as
    one polygon; polygons of fewer than three points are dropped if others remain.

    Args:
        entry: changed in place.
        where: its name in messages.
        repairs: counts what is filled in.
        sizes: (H, W) of every image by its id.
        categories: their ids.

    Raises:
        ValueError: for an unknown image or category, or a missing mask.
    """
    size = _listed(entry, sizes)
    _check_category(entry, entry["image_id"], categories)
    _tidy_crowd(entry, where, repairs)
    entry["segmentation"] = segmentation = _tidy_mask(entry.get("segmentation"), where, repairs)
    check_segmentation(segmentation, *size)
    box, area = _box(entry, where, repairs), _number(entry.get("area"), where, repairs)
    if box is None or area is None:
        pixels, extent = mask_extent(segmentation, *size)
        if box is None:
            repairs.note("without a box of four numbers, computed from the mask", where)
            box = extent
        if area is None:
            repairs.note("without an area, counted in the mask", where)
            area = pixels
    entry["bbox"], entry["area"] = box, area


def tidy_segments(
    entry: Entry, where: str, repairs: Repairs, sizes: Mapping[Any, Size], categories: Collection[Any]
) -> None:
    """Fill in what a panoptic annotation omits; arguments and errors as in `tidy_instance`."""
    height, width = _listed(entry, sizes)
    if not isinstance(entry.get("file_name"), str) or not isinstance(entry.get("segments_info"), list):
        raise ValueError("an image with panoptic segments needs a file_name and a list segments_info.")
    for segment in entry["segments_info"]:
        if not isinstance(segment, dict) or not isinstance(segment.get("id"), int):
            raise ValueError(f"a segment needs an integer id, got {segment!r}.")
        _check_category(segment, entry["image_id"], categories)
        name = f"segment {segment['id']} of {where}"
        _tidy_crowd(segment, name, repairs)
        box, area = _box(segment, name, repairs), _number(segment.get("area"), name, repairs)
        if box is None:
            repairs.note("without a box of four numbers, computed from the pixels", name)
        # Until the pixels are read the segment may lie anywhere.
        segment["bbox"] = box or [0, 0, width, height]
        if area is None:
            repairs.note("without an area, counted in the pixels", name)
            segment.pop("area", None)
        else:
            segment["area"] = area


def _listed(entry: Entry, sizes: Mapping[Any, Size]) -> Size:
    image = entry.get("image_id")
    if not is_id(image) or image not in sizes:
        raise ValueError(f"the file annotates image {image}, which it does not list.")
    return sizes[image]


def _check_category(entry: Entry, image: Any, categories: Collection[Any]) -> None:
    category = entry.get("category_id")
    if not is_id(category) or category not in categories:
        raise ValueError(f"the file uses category {category} in image {image}, but does not list it.")


def _tidy_crowd(entry: Entry, where: str, repairs: Repairs) -> None:
    crowd = entry.get("iscrowd")
    if crowd is None:
        repairs.note("without iscrowd, read as 0", where)
        entry["iscrowd"] = 0
    elif isinstance(crowd, bool) or _number(crowd, where, repairs) in (0, 1):
        entry["iscrowd"] = int(float(crowd))
    else:
        raise ValueError(f"iscrowd must be 0 or 1, got {crowd!r}.")


def _tidy_mask(segmentation: Any, where: str, repairs: Repairs) -> Segmentation:
    if isinstance(segmentation, dict):
        return segmentation
    if not segmentation:
        raise ValueError("it has no segmentation, so its mask is unknown.")
    if not isinstance(segmentation, list):
        raise ValueError(f"its segmentation is neither polygons nor run lengths: {segmentation!r}.")
    if not isinstance(segmentation[0], list):
        repairs.note("with a flat list of numbers, read as one polygon", where)
        segmentation = [segmentation]
    polygons = [_tidy_polygon(polygon, where, repairs) for polygon in segmentation]
    areas = [polygon for polygon in polygons if len(polygon) >= 6]
    if len(areas) < len(polygons) and areas:
        repairs.note("with polygons of fewer than three points, which are dropped", where)
        return areas
    return polygons


def _tidy_polygon(polygon: Any, where: str, repairs: Repairs) -> list[float]:
    if not isinstance(polygon, list):
        raise ValueError(f"a polygon must be a list of numbers, got {polygon!r}.")
    try:
        sum(polygon)
    except TypeError:
        numbers = [_number(value, where, repairs) for value in polygon]
        if None in numbers:
            raise ValueError(f"a polygon holds {polygon[numbers.index(None)]!r}, which is not a number.") from None
        return [number for number in numbers if number is not None]
    return polygon


def _box(entry: Entry, where: str, repairs: Repairs) -> list[float] | None:
    """The four numbers of a box; None if it is anything else."""
    box = entry.get("bbox")
    if isinstance(box, str):
        box = re.split(r"[\s,;]+", box.strip(" []()"))
    if not isinstance(box, list) or len(box) != 4:
        return None
    numbers = [_number(value, where, repairs) for value in box]
    known = [number for number in numbers if number is not None]
    return known if len(known) == 4 else None


def _number(value: Any, where: str, repairs: Repairs) -> float | None:
    """A finite number, also if written as text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
        value = int(value) if value.is_integer() else value
        repairs.note("numbers written as text", where)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
