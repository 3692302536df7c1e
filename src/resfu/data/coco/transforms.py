"""What is done to the samples of datasets with objects."""

import torch
from torchvision.transforms import v2

from resfu.data.base import Transform


def train_transform(flip: bool = True) -> Transform:
    """The training pipeline; networks that find objects resize images themselves.

    Args:
        flip: mirror left to right, half of the time.

    Returns:
        A callable from a sample to a sample of plain tensors: "image" float32 [3, H, W] in 0..1, not normalised.
    """
    steps: list[v2.Transform] = [v2.RandomHorizontalFlip(0.5)] if flip else []
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()])


def eval_transform() -> Transform:
    """The pipeline of validation: the image in 0..1, at its own size, since results are measured there."""
    return train_transform(flip=False)
