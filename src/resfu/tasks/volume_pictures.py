"""Pictures of volumes: slices with their labels and the predictions of networks."""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torchvision.transforms import v2

from resfu.data.medical.base import SliceDataset
from resfu.data.medical.transforms import SplineResize
from resfu.evaluation.volume_inference import predict_volume
from resfu.hosts.base import SegmentationHost
from resfu.tasks.cases import Cases, normalising
from resfu.tasks.pictures import VolumePictures
from resfu.visualize import Picture, colour_labels, overlay

_VOLUMES_SHOWN = 2
_SLICES_SHOWN = 32
_LONGEST_SIDE = 256  # pixels of the longer side of a slice in the report


def labelled_slices(dataset: SliceDataset, size: int) -> SliceDataset:
    """The data set with labels resized to the size of the images, for pictures."""
    assert dataset.transform is not None
    resized = copy.copy(dataset)
    resized.transform = v2.Compose([SplineResize((size, size), label=True), dataset.transform])
    return resized


def volume_pictures(
    hosts: Mapping[str, SegmentationHost], dataset: SliceDataset, size: int, device: torch.device
) -> list[VolumePictures]:
    """Make pictures of the first volumes of a data set, with the predictions of each network.

    Args:
        hosts: trained networks by upsampler, in evaluation mode, on one device.
        dataset: the validation data set.
        size: the size at which the networks get a slice.
        device: device of the networks.
    """
    made = []
    for case in Cases(dataset, size).cases[:_VOLUMES_SHOWN]:
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
            volumes[name] = predict_volume(network, slices, size, device)
        views = {"image": images}
        for name, labels in volumes.items():
            shown = zip(images, labels[:, ::step, ::step], strict=True)
            views[name] = [_organs_over(image, label, dataset.palette) for image, label in shown]
        made.append(VolumePictures(case.name, places, views))
    return made


def _organs_over(image: Picture, label: np.ndarray, palette: torch.Tensor) -> Picture:
    colours = colour_labels(torch.from_numpy(np.ascontiguousarray(label)), palette)
    return np.where((label == 0)[..., None], image, overlay(image, colours))
