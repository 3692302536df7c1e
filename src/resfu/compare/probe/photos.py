"""The images of a data set as in the published probes, with a frozen encoder's features, computed once."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.frozen.encoder import resized
from resfu.frozen.pixel_features import PixelFeatures


@dataclass(frozen=True)
class Seen:
    """An image, its labels and its low-resolution features.

    Attributes:
        image: [1, 3, S, S] in 0..1.
        label: [1, S, S], 255 = ignored.
        low: [1, C, h, w].
    """

    image: Tensor
    label: Tensor
    low: Tensor


def square(sample: dict[str, Any], size: int) -> tuple[Tensor, Tensor]:
    """An image and its labels, resized to the shorter side `size` and centre-cropped: [1, 3, S, S], [1, S, S]."""
    image = sample["image"].as_subclass(Tensor)[None].float() / 255
    label = sample["label"].as_subclass(Tensor)[None]
    H, W = (max(size, round(n * size / min(image.shape[-2:]))) for n in image.shape[-2:])
    image = F.interpolate(image, size=(H, W), mode="bilinear", antialias=True).clamp(0, 1)
    label = F.interpolate(label[None].double(), size=(H, W), mode="nearest-exact")[0].long()
    top, left = (H - size) // 2, (W - size) // 2
    return image[..., top : top + size, left : left + size], label[..., top : top + size, left : left + size]


@torch.no_grad()
def look(pf: PixelFeatures, dataset: Any, size: int, count: int | None, mirrored: bool) -> list[Seen]:
    """The images of a split with their features.

    Args:
        pf: of the encoder.
        dataset: the split.
        size: of the square, S.
        count: largest number of images, evenly spread over the split; None for all.
        mirrored: for training; each image is followed by its mirror image.
    """
    total = len(dataset)
    places = range(total) if count is None or count >= total else [n * total // count for n in range(count)]
    found = []
    for place in places:
        image, label = square(dataset.load(place), size)
        for turn in (False, True) if mirrored else (False,):
            image, label = (image.flip(-1), label.flip(-1)) if turn else (image, label)
            found.append(Seen(image, label, pf.low(resized(image, pf.encoder.size_for((size, size))))))
    return found


@torch.no_grad()
def upsampled(pf: PixelFeatures, seen: Seen) -> Tensor:
    """The features of an image's pixels, [1, C, S, S]."""
    size = (seen.image.shape[-2], seen.image.shape[-1])
    return pf.upsampler(seen.low, pf.guide(seen.image, seen.low), size=size)
