"""Pictures for reports: images with their labels, features and predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from resfu.visualize import Panel, Picture, save_sheet
from resfu.visualize.figures import choose_call, feature_pictures, shared_colours, slot_calls


@dataclass(frozen=True)
class View:
    """One picture of an image.

    Attributes:
        words: a description, the same for every image and upsampler.
        picture: uint8 [H, W, 3].
        caption: the description with details of this picture; empty if there are none.
        photo: whether the picture is, or contains, a photo, rather than areas of one colour.
    """

    words: str
    picture: Picture
    caption: str = ""
    photo: bool = False


@dataclass(frozen=True)
class ImagePictures:
    """One image, and the pictures of every upsampler's results.

    Attributes:
        name: name of the image.
        references: the image itself, then its labels.
        results: for every upsampler, the features before and after it, then the network's prediction.
        classes: names of the labelled classes; empty if they are not known.
        differences: for pairs of upsamplers, the share of pixels with different predictions, in percent; empty if it is
            not known.
    """

    name: str
    references: tuple[View, ...]
    results: dict[str, tuple[View, ...]]
    classes: tuple[str, ...] = ()
    differences: dict[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True)
class VolumePictures:
    """Slices of a volume.

    Attributes:
        name: name of the case.
        slices: numbers of the slices.
        views: pictures uint8 [H, W, 3] for each slice, by title: "image", "ground truth", then every upsampler.
    """

    name: str
    slices: list[int]
    views: dict[str, list[Picture]]


def choose(count: int, wanted: int) -> list[int]:
    """Evenly spaced indices into a data set of `count` images."""
    wanted = min(wanted, count)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def feature_views(hosts: Mapping[str, Any], images: Sequence[Tensor]) -> list[dict[str, tuple[View, View]]]:
    """Pictures of the features before and after each upsampler, with the same colours for all upsamplers.

    Args:
        hosts: networks by upsampler, in evaluation mode, on one device.
        images: [3, H, W] each, normalised, on that device.

    Returns:
        For every image, the two views by upsampler.
    """
    calls = [[choose_call(slot_calls(host, image)) for image in images] for host in hosts.values()]
    bases = shared_colours(calls)
    made = []
    for seen in zip(*calls, strict=True):
        pictures = [feature_pictures(call, basis) for call, basis in zip(seen, bases, strict=True)]
        views = [(View("features before", p["nearest"]), View("features after", p["upsampled"])) for p in pictures]
        made.append(dict(zip(hosts, views, strict=True)))
    return made


def save_sheets(pictures: Sequence[ImagePictures], folder: Path) -> list[Path]:
    """Write one PNG sheet for each image: a row for the image, then one for every upsampler.

    Args:
        pictures: the pictures.
        folder: folder for the files; created if needed.

    Returns:
        The files.
    """
    files = []
    for item in pictures:
        rows = [[Panel(view.picture, view.caption or view.words) for view in item.references]]
        for name, views in item.results.items():
            rows.append([Panel(view.picture, f"{name}: {view.caption or view.words}") for view in views])
        files.append(save_sheet(rows, item.name, folder / f"{item.name}.png"))
    return files
