"""The pictures of a comparison: the same images seen through each trained network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from resfu.data import SegmentationDataset
from resfu.evaluation.inference import predict
from resfu.hosts.base import SegmentationHost
from resfu.visualize import (
    Panel,
    PCABasis,
    Picture,
    align,
    colour_labels,
    draw_sheet,
    enlarge,
    error_map,
    fit_pca,
    from_normalised,
    overlay,
)


@dataclass(frozen=True)
class ResultPictures:
    """What one upsampler made of one image; every picture is uint8 [H, W, 3].

    Attributes:
        before: PCA of the features at low resolution.
        after: PCA of the upsampled features.
        mask: the prediction in class colours.
        error: where it is wrong.
        correct: share of the counted pixels that are right, in percent.
    """

    before: Picture
    after: Picture
    mask: Picture
    error: Picture
    correct: float


@dataclass(frozen=True)
class ImagePictures:
    """One image with what every upsampler made of it."""

    name: str
    image: Picture
    label: Picture
    results: dict[str, ResultPictures]


@dataclass(frozen=True)
class FeaturePair:
    """The features of one image before ([C, h, w]) and after ([C, H, W]) the upsampler, and what part is the image.

    Networks continue images to sizes that they accept: `kept` is the share (rows, columns) that is the image's own.
    """

    before: Tensor
    after: Tensor
    kept: tuple[float, float]

    def colour(self, basis: PCABasis) -> tuple[Picture, Picture]:
        """Both maps in the colours of a basis, the first with its pixels repeated to the size of the second."""
        after = basis.colour(self.after)
        before = enlarge(basis.colour(self.before), after.shape[:2])
        rows, columns = (max(1, round(n * share)) for n, share in zip(after.shape[:2], self.kept, strict=True))
        return before[:rows, :columns], after[:rows, :columns]


@torch.no_grad()
def feature_pair(host: SegmentationHost, image: Tensor) -> FeaturePair:
    """Features round the upsampler that goes highest and, among those, starts from the lowest resolution.

    Args:
        host: the network, in evaluation mode.
        image: [3, H, W], normalised, on the network's device.

    Returns:
        The maps, on the CPU.
    """
    pairs = host.upsampled_features(image[None])
    before, after = min(pairs.values(), key=lambda pair: (-pair[1].shape[-2:].numel(), pair[0].shape[-2:].numel()))
    height, width = (n / host.stride for n in image.shape[-2:])
    kept = (min(1.0, height / after.shape[-2]), min(1.0, width / after.shape[-1]))
    return FeaturePair(before[0].cpu(), after[0].cpu(), kept)


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


def make_pictures(
    hosts: dict[str, SegmentationHost], dataset: SegmentationDataset, indices: Sequence[int]
) -> list[ImagePictures]:
    """Look at some images of a data set through each network.

    Args:
        hosts: trained networks by upsampler, in evaluation mode, on one device.
        dataset: with the networks' evaluation transform.
        indices: of the images.

    Returns:
        One entry an image.
    """
    device = next(next(iter(hosts.values())).parameters()).device
    samples = [dataset[index] for index in indices]
    images = [sample["image"].to(device) for sample in samples]
    pairs = [[feature_pair(host, image) for image in images] for host in hosts.values()]
    bases = shared_colours(pairs)
    first = next(iter(hosts.values()))
    made = []
    for i, sample in enumerate(samples):
        label = torch.as_tensor(sample["label"])
        results = {}
        for (name, host), network, basis in zip(hosts.items(), pairs, bases, strict=True):
            prediction = predict(host, images[i][None]).argmax(1)[0].cpu()
            counted = label != dataset.ignore_index
            correct = (prediction == label)[counted].float().mean().item() * 100 if counted.any() else 100.0
            before, after = network[i].colour(basis)
            mask = colour_labels(prediction, dataset.palette)
            results[name] = ResultPictures(before, after, mask, error_map(prediction, label), correct)
        picture = from_normalised(images[i], first.mean, first.std)
        made.append(ImagePictures(sample["name"], picture, colour_labels(label, dataset.palette), results))
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
        height, width = item.image.shape[:2]
        label = overlay(item.image, item.label)
        rows: list[list[Panel | None]] = [
            [Panel(item.image, "image"), Panel(label, "ground truth over the image"), Panel(item.label, "ground truth")]
        ]
        for name, result in item.results.items():
            rows.append(
                [
                    Panel(result.before, f"{name}: features before"),
                    Panel(result.after, f"{name}: features after"),
                    Panel(result.mask, f"{name}: prediction"),
                    Panel(result.error, f"{name}: {100 - result.correct:.1f} % wrong"),
                ]
            )
        sheet: Image.Image = draw_sheet(rows, title=item.name, panel_height=min(300, max(160, 300 * height // width)))
        files.append(folder / f"{item.name}.png")
        sheet.save(files[-1], optimize=True)
    return files
