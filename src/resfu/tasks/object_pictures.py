"""Pictures of the labelled and the predicted objects of an image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from resfu.data.base import Sample
from resfu.data.coco import ObjectDataset
from resfu.hosts.mask_rcnn import MaskRCNN
from resfu.tasks.object_files import draw_found, is_shown
from resfu.tasks.pictures import ImagePictures, View, feature_views
from resfu.visualize import Picture
from resfu.visualize.objects import draw_instances, draw_panoptic

_DRAWN_SIDE = 288  # pictures whose shorter side has fewer pixels are enlarged before drawing


@torch.no_grad()
def object_pictures(
    hosts: Mapping[str, MaskRCNN], dataset: ObjectDataset, indices: Sequence[int]
) -> list[ImagePictures]:
    """Make pictures of some images of a data set, with the objects that each network finds.

    Args:
        hosts: trained networks by upsampler, in evaluation mode, on one device.
        dataset: a data set with the evaluation transform.
        indices: indices of the images.

    Returns:
        One entry for each image; the last view of a network shows its objects over the image.
    """
    device = next(next(iter(hosts.values())).parameters()).device
    samples = [dataset[index] for index in indices]
    images = [sample["image"].to(device) for sample in samples]
    made = []
    for sample, image, views in zip(samples, images, feature_views(hosts, images), strict=True):
        picture = (sample["image"] * 255).round().byte().permute(1, 2, 0).numpy()
        results = {name: (*views[name], _found(picture, host([image])[0], dataset)) for name, host in hosts.items()}
        references = (View("image", picture, photo=True), _labelled(picture, sample, dataset))
        made.append(ImagePictures(sample["name"], references, results))
    return made


def _labelled(picture: Picture, sample: Sample, dataset: ObjectDataset) -> View:
    larger, times = _larger(picture)
    if "segments" in sample:
        colours = [category.color for category in dataset.categories]
        drawn = draw_panoptic(larger, _repeated(sample["ids"], times).numpy(), sample["segments"], colours)
        return View("labelled segments", drawn, f"labelled segments: {len(sample['segments'])}", photo=True)
    target = sample["target"]
    words = [dataset.things[label - 1].name for label in target["labels"].tolist()]
    drawn = draw_instances(larger, _repeated(target["masks"], times).bool().numpy(), words)
    return View("labelled objects", drawn, f"labelled objects: {len(words)}", photo=True)


def _found(picture: Picture, found: dict[str, Any], dataset: ObjectDataset) -> View:
    larger, times = _larger(picture)
    if "panoptic" in found:
        ids, segments = _repeated(found["panoptic"]["ids"], times), found["panoptic"]["segments"]
        drawn = draw_found(larger, {"panoptic": {"ids": ids, "segments": segments}}, dataset.categories)
        return View("found segments", drawn, f"found segments: {len(segments)}", photo=True)
    drawn = draw_found(larger, {**found, "masks": _repeated(found["masks"], times)}, dataset.categories)
    return View("found objects", drawn, f"found objects: {int(is_shown(found).sum())}", photo=True)


def _larger(picture: Picture) -> tuple[Picture, int]:
    """Enlarge a picture by repeating pixels, so that outlines and words do not hide objects; also return the factor."""
    times = max(1, round(_DRAWN_SIDE / min(picture.shape[:2])))
    return picture.repeat(times, axis=0).repeat(times, axis=1), times


def _repeated(maps: Tensor, times: int) -> Tensor:
    return maps.repeat_interleave(times, -1).repeat_interleave(times, -2)
