"""Pictures of images seen through networks: what is labelled in them, their features, and what is predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from PIL import Image
from torch import Tensor

from resfu.files.atomic import replacing
from resfu.visualize import (
    Panel,
    PCABasis,
    Picture,
    align,
    draw_sheet,
    enlarge,
    fit_pca,
)
from resfu.visualize.figures import SlotCall, choose_call, slot_calls
from resfu.visualize.figures.frame import kept


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
    """

    name: str
    references: tuple[View, ...]
    results: dict[str, tuple[View, ...]]


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


@dataclass(frozen=True)
class FeaturePair:
    """The features of one image before ([C, h, w]) and after ([C, H, W]) the upsampler, and what part is the image.

    Networks pad images to sizes that they accept: `kept` is the share (rows, columns) that is the image's own.
    """

    before: Tensor
    after: Tensor
    kept: tuple[float, float]

    @classmethod
    def of(cls, call: SlotCall) -> Self:
        """The pair of a slot's call, on the CPU."""
        return cls(call.features[0].cpu(), call.output[0].cpu(), call.frame.share)

    def colour(self, basis: PCABasis) -> tuple[Picture, Picture]:
        """Both maps in the colours of a basis, the first with its pixels repeated to the size of the second."""
        after = basis.colour(self.after)
        before = enlarge(basis.colour(self.before), after.shape[:2])
        rows, columns = kept((after.shape[0], after.shape[1]), self.kept)
        return before[:rows, :columns], after[:rows, :columns]


def feature_pair(host: Any, image: Tensor) -> FeaturePair:
    """Features round the upsampler with the highest ratio and, among those, the finest output.

    Args:
        host: the network, in evaluation mode.
        image: [3, H, W], normalised, on the network's device.

    Returns:
        The maps, on the CPU.
    """
    return FeaturePair.of(choose_call(slot_calls(host, image)))


def shared_colours(pairs: Sequence[Sequence[FeaturePair]]) -> list[PCABasis]:
    """One basis a network, fitted before the upsampler and turned so that the networks' colours resemble each other.

    Args:
        pairs: of every network the features of the same images in the same order.

    Returns:
        A basis for each network.
    """
    maps = [[pair.before for pair in network] for network in pairs]
    bases = [fit_pca(network) for network in maps]
    same_sizes = [[m.shape[1:] for m in network] == [m.shape[1:] for m in maps[0]] for network in maps]
    return [
        align(basis, network, bases[0], maps[0]) if same else basis
        for basis, network, same in zip(bases, maps, same_sizes, strict=True)
    ]


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
    pairs = [[feature_pair(host, image) for image in images] for host in hosts.values()]
    bases = shared_colours(pairs)
    made = []
    for seen in zip(*pairs, strict=True):
        colours = [pair.colour(basis) for pair, basis in zip(seen, bases, strict=True)]
        views = [(View("features before", before), View("features after", after)) for before, after in colours]
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
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for item in pictures:
        height, width = item.references[0].picture.shape[:2]
        rows = [[Panel(view.picture, view.caption or view.words) for view in item.references]]
        for name, views in item.results.items():
            rows.append([Panel(view.picture, f"{name}: {view.caption or view.words}") for view in views])
        sheet: Image.Image = draw_sheet(rows, title=item.name, panel_height=min(300, max(160, 300 * height // width)))
        files.append(folder / f"{item.name}.png")
        with replacing(files[-1]) as draft:
            sheet.save(draft, optimize=True)
    return files
