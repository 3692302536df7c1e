"""Augmentation and normalisation of samples, with torchvision's v2 transforms.

The training pipeline is the common one of the segmentation literature (mmsegmentation's defaults): random resize,
random crop that avoids one-class crops, flip, photometric distortion, normalise, pad.
"""

from collections.abc import Sequence

import torch
from torchvision.transforms import v2

from resfu.data.base import Transform
from resfu.data.transforms.geometry import FitImage, PadTo, RandomCrop, RandomResize
from resfu.data.transforms.photometric import PhotometricDistortion
from resfu.ops.checks import check_int


def train_transform(
    crop_size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    scale_range: tuple[float, float] = (0.5, 2.0),
    flip: bool = True,
    photometric: bool = True,
    cat_max_ratio: float = 0.75,
    base_size: tuple[int, int] | None = None,
) -> Transform:
    """The training pipeline.

    Args:
        crop_size: (H, W) of the output.
        mean: per channel, for images in 0..1.
        std: per channel, for images in 0..1.
        scale_range: bounds of the random resize factor.
        flip: mirror half of the images left to right.
        photometric: distort brightness, contrast, saturation and hue.
        cat_max_ratio: a crop in which one class covers this share or more is drawn again, up to 10 times.
        base_size: (long, short): the random factor is relative to it, see `RandomResize`; None: to the image's size.

    Returns:
        A transform of samples: "image" float32 [3, H, W], normalised and padded with 0; "label" int64 [H, W], padded
        with 255.

    Raises:
        ValueError: for an invalid size, range, ratio, mean or std.
    """
    steps: list[v2.Transform] = [RandomResize(scale_range, base_size), RandomCrop(crop_size, cat_max_ratio)]
    if flip:
        steps.append(v2.RandomHorizontalFlip(0.5))
    steps.append(v2.ToDtype(torch.float32, scale=True))
    if photometric:
        steps.append(PhotometricDistortion())
    # Padding follows the normalisation: its 0 is then the mean colour.
    steps += [_normalize(mean, std), PadTo(crop_size), v2.ToPureTensor()]
    return v2.Compose(steps)


def eval_transform(
    mean: Sequence[float],
    std: Sequence[float],
    eval_size: tuple[int, int] | None = None,
    longest_side: int | None = None,
) -> Transform:
    """The validation pipeline: resize the image if requested, and normalise it.

    Args:
        mean: per channel, for images in 0..1.
        std: per channel, for images in 0..1.
        eval_size: (long, short): the image, but not its label, is resized to fit, see `FitImage`; None: not resized.
        longest_side: larger images are shrunk to this, and `eval_size` is limited to it; None: no limit.

    Returns:
        A transform of samples: "image" float32 [3, H, W]; "label" int64, unchanged.

    Raises:
        ValueError: for an invalid mean, std or size.
    """
    steps: list[v2.Transform] = []
    if longest_side is not None:
        check_int("longest_side", longest_side, least=2)  # PyTorch resizes to no single pixel
        if eval_size is None:
            steps.append(FitImage((longest_side, longest_side), enlarge=False))
        else:
            eval_size = (min(eval_size[0], longest_side), min(eval_size[1], longest_side))
    if eval_size is not None:
        steps.append(FitImage(eval_size))
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), _normalize(mean, std), v2.ToPureTensor()])


def _normalize(mean: Sequence[float], std: Sequence[float]) -> v2.Normalize:
    if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
        raise ValueError(f"mean and std must have 3 numbers each, std above 0; got {mean} and {std}.")
    return v2.Normalize(list(mean), list(std))


__all__ = [
    "FitImage",
    "PadTo",
    "PhotometricDistortion",
    "RandomCrop",
    "RandomResize",
    "eval_transform",
    "train_transform",
]
