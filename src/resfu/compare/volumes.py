"""Comparisons on volumes: their data, Dice and HD95 organ by organ, and slices to leaf through."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torchvision.transforms import v2

from resfu.compare.kinds import VOLUMES
from resfu.compare.narrow import print_table
from resfu.compare.settings import Settings
from resfu.compare.summary import Spread, kind_in
from resfu.compare.weights import Network
from resfu.data import SegmentationDataset
from resfu.data.coco import ObjectDataset
from resfu.data.medical.base import SliceDataset
from resfu.data.medical.transforms import SplineResize
from resfu.evaluation.volume_inference import predict_volume
from resfu.training.datamodule import SegmentationData
from resfu.training.volumes import Cases, normalising
from resfu.visualize import Picture, colour_labels, overlay

_VOLUMES_SHOWN = 2
_SLICES_SHOWN = 32
_LONGEST_SIDE = 256  # of a slice in the report


@dataclass(frozen=True)
class VolumePictures:
    """Slices of a volume.

    Attributes:
        name: of the case.
        slices: their numbers.
        layers: by what they show, uint8 [H, W, 3] for each slice: "image", "ground truth", then every upsampler.
    """

    name: str
    slices: list[int]
    layers: dict[str, list[Picture]]


def volume_data(settings: Settings, seed: int, mean: Any, std: Any, workers: int) -> SegmentationData:
    """The batches of one run on volumes, see `create_data`."""
    assert settings.crop is not None
    return SegmentationData(
        settings.data,
        mean=mean,
        std=std,
        root=settings.root,
        **settings.data_options,
        augmentation="slice",
        crop_size=settings.crop,
        batch_size=settings.batch_size,
        num_workers=workers,
        seed=seed,
    )


def labelled_slices(settings: Settings, dataset: SegmentationDataset) -> SegmentationDataset:
    """The data set, of slices with their labels at the size of the images, for pictures of both."""
    if not isinstance(dataset, SliceDataset):
        return dataset
    assert dataset.transform is not None
    assert settings.crop is not None
    resized = copy.copy(dataset)
    resized.transform = v2.Compose([SplineResize(settings.crop, label=True), dataset.transform])
    return resized


def organ_scores(results: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Mean and spread over the seeds, in words: by organ and upsampler the Dice and the HD95.

    Args:
        results: the content of `results.json` of a comparison on volumes.
    """
    scores: dict[str, dict[str, list[str]]] = {}
    for index, organ in enumerate(results["classes"][1:]):
        scores[organ] = {}
        for name in results["settings"]["upsamplers"]:
            runs = [run for run in results["runs"] if run["upsampler"] == name]
            values = ([run[key][index] for run in runs if run[key][index] is not None] for key in VOLUMES.by_class)
            scores[organ][name] = [str(Spread(tuple(known))) if known else "-" for known in values]
    return scores


def organ_markdown(results: Mapping[str, Any]) -> str:
    """The organs as a Markdown table; nothing for data that are not volumes."""
    if kind_in(results) is not VOLUMES:
        return ""
    names = results["settings"]["upsamplers"]
    titles = ["organ", *(f"{name} {metric}" for name in names for metric in VOLUMES.by_class.values())]
    lines = ["", "| " + " | ".join(titles) + " |", "|:--|" + "--:|" * (len(titles) - 1)]
    for organ, scores in organ_scores(results).items():
        lines.append("| " + " | ".join([organ, *(word for name in names for word in scores[name])]) + " |")
    return "\n".join([*lines, ""])


def print_organs(results: Mapping[str, Any], console: Console) -> None:
    """Print the organs, a line for each upsampler; nothing for data that are not volumes."""
    if kind_in(results) is not VOLUMES:
        return
    table = Table("organ", "upsampler", box=SIMPLE_HEAD, collapse_padding=True)
    for title in VOLUMES.by_class.values():
        table.add_column(title, justify="right", no_wrap=True)
    for organ, scores in organ_scores(results).items():
        for place, (name, words) in enumerate(scores.items()):
            table.add_row("" if place else organ, name, *words)
    print_table(console, table, names=2)


def make_volume_pictures(
    settings: Settings, hosts: Mapping[str, Network], dataset: SegmentationDataset | ObjectDataset
) -> list[VolumePictures]:
    """Look at the first volumes of a data set through each network; nothing for data that are not volumes.

    Args:
        settings: of the comparison.
        hosts: trained networks by upsampler, in evaluation mode, on one device.
        dataset: of the validation.
    """
    if not isinstance(dataset, SliceDataset) or settings.crop is None:
        return []
    device = next(next(iter(hosts.values())).parameters()).device
    made = []
    for case in Cases(dataset, settings.crop[0]).cases[:_VOLUMES_SHOWN]:
        count = min(len(case), _SLICES_SHOWN)
        places = [(2 * i + 1) * len(case) // (2 * count) for i in range(count)]
        slices = [case[place] for place in places]
        step = -(-max(slices[0].shape) // _LONGEST_SIDE)
        low, high = min(s.min() for s in slices), max(s.max() for s in slices)
        grey = [((s[::step, ::step] - low) / max(high - low, 1e-6) * 255).round().astype(np.uint8) for s in slices]
        images = [np.repeat(pixels[..., None], 3, axis=-1) for pixels in grey]
        volumes = {"ground truth": case.classes()[places]}
        for name, host in hosts.items():
            network = normalising(host, host.mean, host.std)
            volumes[name] = predict_volume(network, slices, settings.crop[0], device)
        layers = {"image": images}
        for name, labels in volumes.items():
            shown = zip(images, labels[:, ::step, ::step], strict=True)
            layers[name] = [_organs_over(image, label, dataset.palette) for image, label in shown]
        made.append(VolumePictures(case.name, places, layers))
    return made


def _organs_over(image: Picture, label: np.ndarray, palette: torch.Tensor) -> Picture:
    colours = colour_labels(torch.from_numpy(np.ascontiguousarray(label)), palette)
    return np.where((label == 0)[..., None], image, overlay(image, colours))
