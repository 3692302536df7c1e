"""Transforms of the samples of instance and panoptic datasets."""

import torch
from torchvision.transforms import v2

from resfu.data.base import Transform


def train_transform(flip: bool = True) -> Transform:
    """The training pipeline; detection networks resize images themselves.

    Args:
        flip: mirror half of the images left to right.

    Returns:
        A transform to plain tensors: "image" float32 [3, H, W] in 0..1, not normalised.
    """
    steps: list[v2.Transform] = [v2.RandomHorizontalFlip(0.5)] if flip else []
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()])


def eval_transform() -> Transform:
    """The validation pipeline: the image in 0..1, at its original size."""
    return train_transform(flip=False)
