"""Pictures of label maps: the labels of an image, the prediction of a network, and its errors."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.data import SegmentationDataset
from resfu.deploy.decisions import largest_class
from resfu.evaluation.labels import predict_labels
from resfu.hosts.base import SegmentationHost
from resfu.tasks.pictures import ImagePictures, View, feature_views
from resfu.visualize import Picture, colour_labels, error_map, from_normalised, overlay


@torch.no_grad()
def label_map_pictures(
    hosts: Mapping[str, SegmentationHost],
    dataset: SegmentationDataset,
    indices: Sequence[int],
    mode: Literal["whole", "slide"] = "whole",
    crop_size: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
) -> list[ImagePictures]:
    """Make pictures of some images of a data set of label maps, with the predictions of each network.

    Args:
        hosts: trained networks by upsampler, in evaluation mode, on one device.
        dataset: a data set with the networks' evaluation transform.
        indices: indices of the images.
        mode: "whole" or "slide", as in `resfu.evaluation.inference.predict`, like the two arguments that follow.
        crop_size: of the windows.
        stride: of the windows.

    Returns:
        One entry for each image.
    """
    first = next(iter(hosts.values()))
    device = next(first.parameters()).device
    samples = [dataset[index] for index in indices]
    images = [sample["image"].to(device) for sample in samples]
    made = []
    for sample, image, views in zip(samples, images, feature_views(hosts, images), strict=True):
        label = torch.as_tensor(sample["label"])
        results, predictions = {}, {}
        for name, host in hosts.items():
            found = predict_labels(host, image[None], (label.shape[-2], label.shape[-1]), mode, crop_size, stride)
            prediction = predictions[name] = found[0].cpu()
            counted = label != dataset.ignore_index
            wrong = (prediction != label)[counted].float().mean().item() * 100 if counted.any() else 0.0
            results[name] = (
                *views[name],
                View("prediction", colour_labels(prediction, dataset.palette)),
                View("errors", error_map(prediction, label), f"errors: {wrong:.1f} % of the pixels"),
            )
        if image.shape[-2:] != label.shape:  # the evaluation transform resizes images, but not their labels
            image = F.interpolate(image[None], tuple(label.shape), mode="bilinear", antialias=True)[0]
        picture, colours = from_normalised(image, first.mean, first.std), colour_labels(label, dataset.palette)
        references = (
            View("image", picture, photo=True),
            View("ground truth over the image", overlay(picture, colours), photo=True),
            View("ground truth", colours),
        )
        present = [dataset.classes[n] for n in label.unique().tolist() if n != dataset.ignore_index]
        differences = {
            (a, b): (predictions[a] != predictions[b]).float().mean().item() * 100 for a, b in combinations(hosts, 2)
        }
        made.append(ImagePictures(sample["name"], references, results, tuple(present), differences))
    return made


@torch.no_grad()
def label_map_picture(host: SegmentationHost, image: Tensor, palette: Sequence[Sequence[int]] | None) -> Picture | None:
    """The prediction of a network for an image [3, H, W], in the colours of the classes; None without colours."""
    if palette is None:
        return None
    return colour_labels(largest_class(host(image[None]))[0], torch.tensor(palette, dtype=torch.uint8))
