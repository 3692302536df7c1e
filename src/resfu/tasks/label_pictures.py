"""Pictures of label maps: the labels of an image, the prediction of a network, and its errors."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from resfu.data import SegmentationDataset
from resfu.deploy.decisions import largest_class
from resfu.evaluation.inference import predict
from resfu.hosts.base import SegmentationHost
from resfu.tasks.pictures import ImagePictures, View, feature_views
from resfu.visualize import Picture, colour_labels, error_map, from_normalised, overlay


@torch.no_grad()
def label_map_pictures(
    hosts: Mapping[str, SegmentationHost], dataset: SegmentationDataset, indices: Sequence[int]
) -> list[ImagePictures]:
    """Make pictures of some images of a data set of label maps, with the predictions of each network.

    Args:
        hosts: trained networks by upsampler, in evaluation mode, on one device.
        dataset: a data set with the networks' evaluation transform.
        indices: indices of the images.

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
            prediction = predictions[name] = largest_class(predict(host, image[None]))[0].cpu()
            counted = label != dataset.ignore_index
            wrong = (prediction != label)[counted].float().mean().item() * 100 if counted.any() else 0.0
            results[name] = (
                *views[name],
                View("prediction", colour_labels(prediction, dataset.palette)),
                View("errors", error_map(prediction, label), f"errors: {wrong:.1f} % of the pixels"),
            )
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
