"""What is done to the samples of datasets with objects."""

from collections.abc import Sequence

import torch
from torchvision.transforms import v2

from resfu.data.base import Transform
from resfu.data.coco.sampling import RandomShortSide


def train_transform(flip: bool = True, short_sides: Sequence[int] | None = None, long_side: int = 1333) -> Transform:
    """The training pipeline.

    Args:
        flip: mirror left to right, half of the time.
        short_sides: shorter sides to draw from, in pixels; None: the image stays as it is, for networks that resize
            it themselves, as torchvision's do.
        long_side: what the longer side has at most, with `short_sides`.

    Returns:
        A callable from a sample to a sample of plain tensors: "image" float32 [3, H, W] in 0..1, not normalised.

    Raises:
        ValueError: for sides that make no sense.
    """
    steps: list[v2.Transform] = [] if short_sides is None else [RandomShortSide(short_sides, long_side)]
    if flip:
        steps.append(v2.RandomHorizontalFlip(0.5))
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()])


def eval_transform() -> Transform:
    """The pipeline of validation: the image in 0..1, at its own size, since results are measured there."""
    return v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()])
