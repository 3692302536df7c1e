"""Pictures of images seen through networks: what is labelled in them, their features, and what is predicted."""

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
        words: what it shows, the same for every image and upsampler.
        picture: uint8 [H, W, 3].
        caption: the words with what is particular to this one; empty for no more than the words.
        photo: whether it is a photo, or lies over one, rather than areas of one colour.
    """

    words: str
    picture: Picture
    caption: str = ""
    photo: bool = False


@dataclass(frozen=True)
class ImagePictures:
    """One image, and what every upsampler made of it.

    Attributes:
        name: of the image.
        references: the image itself, then what is labelled in it.
        results: by upsampler the features before and after it, then what the network made of them.
        classes: names of those that are labelled in it; empty where that is not known.
        differences: by pairs of upsamplers, the share of the pixels of which they say something else, in percent; empty
            where that is not known.
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
        name: of the case.
        slices: their numbers.
        views: by what they show, uint8 [H, W, 3] for each slice: "image", "ground truth", then every upsampler.
    """

    name: str
    slices: list[int]
    views: dict[str, list[Picture]]


def choose(count: int, wanted: int) -> list[int]:
    """Evenly spaced places in a data set of `count` images."""
    wanted = min(wanted, count)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def feature_views(hosts: Mapping[str, Any], images: Sequence[Tensor]) -> list[dict[str, tuple[View, View]]]:
    """The features of images before and after each upsampler, in colours that can be compared.

    Args:
        hosts: networks by upsampler, in evaluation mode, on one device.
        images: [3, H, W] each, normalised, on that device.

    Returns:
        For every image both views by upsampler.
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
    """Write one PNG sheet an image: a row for the image, then one for every upsampler.

    Args:
        pictures: what to show.
        folder: made when it is not there.

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
