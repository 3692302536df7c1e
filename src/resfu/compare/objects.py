"""Comparisons on objects: their task and data, and what is labelled and found in an image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from resfu.compare.kinds import PANOPTIC
from resfu.compare.pictures import ImagePictures, Layer, feature_layers
from resfu.compare.settings import Settings
from resfu.compare.variants import parse_variant
from resfu.compare.weights import Network
from resfu.data.base import Sample
from resfu.data.coco import Category, ObjectDataset, PanopticDataset
from resfu.data.coco.scenes import SceneObjects
from resfu.training.detection import DetectionTask
from resfu.training.detection_data import DetectionData
from resfu.training.object_files import draw_found, is_shown
from resfu.training.parameter_groups import Optimisation
from resfu.training.schedule import Schedule
from resfu.visualize import Picture
from resfu.visualize.objects import draw_instances, draw_panoptic

_COCO = (80, 53)  # its things and stuff
_DRAWN_SIDE = 288  # pixels of the shorter side from which on a picture is drawn as it is


def object_task(
    settings: Settings, upsampler: str, seed: int, optimisation: Optimisation, schedule: Schedule
) -> DetectionTask:
    """The task of one run on objects, see `create_task`."""
    name, options = parse_variant(upsampler)
    things = sum(category.isthing for category in SceneObjects.categories)
    scenes = (things, len(SceneObjects.categories) - things)
    num_classes, stuff_classes = scenes if settings.data == "scenes" else _COCO
    return DetectionTask(
        settings.host,
        name,
        num_classes,
        stuff_classes,
        upsampler_options=options or None,
        host_options=settings.host_options,
        pretrained=settings.pretrained,
        freeze_encoder=settings.freeze_encoder,
        optimisation=optimisation,
        schedule=schedule,
        boundary=True,
        seed=seed,
    )


def object_data(settings: Settings, seed: int, workers: int) -> DetectionData:
    """The batches of one run on objects, see `create_data`."""
    scenes = settings.data == "scenes"
    return DetectionData(
        settings.data,
        settings.kind is PANOPTIC,
        root=settings.root,
        **settings.data_options,
        batch_size=settings.batch_size,
        eval_batch_size=4 if scenes else 1,
        num_workers=workers,
        seed=seed,
    )


def measured_categories(dataset: ObjectDataset) -> tuple[Category, ...]:
    """The categories that a table of classes lists: things, and where they are labelled stuff."""
    return dataset.categories if isinstance(dataset, PanopticDataset) else dataset.things


@torch.no_grad()
def make_object_pictures(
    hosts: Mapping[str, Network], dataset: ObjectDataset, indices: Sequence[int]
) -> list[ImagePictures]:
    """Look at some images of a data set through each network.

    Args:
        hosts: trained networks by upsampler, in evaluation mode, on one device.
        dataset: with the evaluation transform.
        indices: of the images.

    Returns:
        One entry an image; the last layer of a network shows what it found, over the image.
    """
    device = next(next(iter(hosts.values())).parameters()).device
    samples = [dataset[index] for index in indices]
    images = [sample["image"].to(device) for sample in samples]
    made = []
    for sample, image, layers in zip(samples, images, feature_layers(hosts, images), strict=True):
        picture = (sample["image"] * 255).round().byte().permute(1, 2, 0).numpy()
        results = {name: (*layers[name], _found(picture, host([image])[0], dataset)) for name, host in hosts.items()}
        references = (Layer("image", picture, photo=True), _labelled(picture, sample, dataset))
        made.append(ImagePictures(sample["name"], references, results))
    return made


def _labelled(picture: Picture, sample: Sample, dataset: ObjectDataset) -> Layer:
    larger, times = _larger(picture)
    if "segments" in sample:
        colours = [category.color for category in dataset.categories]
        drawn = draw_panoptic(larger, _repeated(sample["ids"], times).numpy(), sample["segments"], colours)
        return Layer("labelled segments", drawn, f"labelled segments: {len(sample['segments'])}", photo=True)
    target = sample["target"]
    words = [dataset.things[label - 1].name for label in target["labels"].tolist()]
    drawn = draw_instances(larger, _repeated(target["masks"], times).bool().numpy(), words)
    return Layer("labelled objects", drawn, f"labelled objects: {len(words)}", photo=True)


def _found(picture: Picture, found: dict[str, Any], dataset: ObjectDataset) -> Layer:
    larger, times = _larger(picture)
    if "panoptic" in found:
        ids, segments = _repeated(found["panoptic"]["ids"], times), found["panoptic"]["segments"]
        drawn = draw_found(larger, {"panoptic": {"ids": ids, "segments": segments}}, dataset.categories)
        return Layer("found segments", drawn, f"found segments: {len(segments)}", photo=True)
    drawn = draw_found(larger, {**found, "masks": _repeated(found["masks"], times)}, dataset.categories)
    return Layer("found objects", drawn, f"found objects: {int(is_shown(found).sum())}", photo=True)


def _larger(picture: Picture) -> tuple[Picture, int]:
    """A picture with its pixels repeated until outlines and words do not hide what is in it, and how many times."""
    times = max(1, round(_DRAWN_SIDE / min(picture.shape[:2])))
    return picture.repeat(times, axis=0).repeat(times, axis=1), times


def _repeated(maps: Tensor, times: int) -> Tensor:
    return maps.repeat_interleave(times, -1).repeat_interleave(times, -2)
