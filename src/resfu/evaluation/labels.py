"""Label maps of large images, without the logits of all their pixels."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from resfu.deploy.decisions import largest_class
from resfu.deploy.labels import upsample_labels
from resfu.evaluation.inference import checked_windows, predict, resize_logits, slide
from resfu.hosts.base import SegmentationHost

_BUDGET = 256 * 2**20  # bytes of working memory
_LEAST = 32 * 2**20  # bytes: enough for one row of any photo


@torch.no_grad()
def predict_labels(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    size: tuple[int, int],
    mode: Literal["whole", "slide"] = "whole",
    crop_size: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    budget: int = _BUDGET,
) -> Tensor:
    """The most probable class at each pixel: `resize_logits(predict(...), size).argmax(1)`, in less memory.

    The logits of a `SegmentationHost` are enlarged box by box (see `resfu.upsample_labels`), or a few classes at a time
    if `size` is not the image's size. Logits of windows are reduced to labels as soon as no later window covers their
    rows, unless `size` is not the image's size.

    Args:
        model: see `predict`; at most 256 classes.
        images: [B, 3, h, w], see `predict`.
        size: (H, W) of the label map.
        mode: "whole" or "slide".
        crop_size: see `predict`.
        stride: see `predict`.
        budget: bytes of working memory beyond the network's.

    Returns:
        uint8 [B, H, W].

    Raises:
        ValueError: see `predict`; or for more than 256 classes.
    """
    windows = checked_windows(mode, crop_size, stride)
    inner = (images.shape[-2], images.shape[-1])
    if windows is not None and inner == tuple(size):
        bands = [largest_class(few_classes(logits)).to(torch.uint8) for _, logits in slide(model, images, *windows)]
        return torch.cat(bands, dim=1)
    if windows is None and isinstance(model, SegmentationHost) and images.shape[0]:
        coarse, whole = few_classes(model.coarse_logits(images)), model.accepted_size(inner)
        if inner == tuple(size):
            return upsample_labels(coarse, whole, budget=max(budget, _LEAST))[..., : inner[0], : inner[1]]
        return _largest(coarse, lambda part: resize_logits(model.enlarge(part, inner), size), size, budget)
    logits = few_classes(predict(model, images, mode, crop_size, stride))
    if tuple(logits.shape[-2:]) == tuple(size) or not len(logits):
        return _largest(logits, lambda part: part, size, budget)
    return upsample_labels(logits, size, budget=max(budget, _LEAST))


def few_classes(logits: Tensor) -> Tensor:
    """The same logits [B, K, ...]; a ValueError for more classes than a label map of uint8 can hold."""
    if logits.shape[1] > 256:
        raise ValueError(
            f"label maps are uint8, and the network gives {logits.shape[1]} classes: take the logits of predict(...)."
        )
    return logits


def _largest(logits: Tensor, enlarge: Callable[[Tensor], Tensor], size: tuple[int, int], budget: int) -> Tensor:
    """Class of the largest logit at each pixel; the first in a tie.

    Args:
        logits: [B, K, h, w].
        enlarge: [B, any number of classes, h, w] -> the same classes [B, ..., H, W], each independently.
        size: (H, W).
        budget: bytes of enlarged logits at a time.
    """
    B, K = logits.shape[:2]
    step = max(1, budget // max(1, B * size[0] * size[1] * logits.element_size()))
    best, label = enlarge(logits[:, :step]).max(1)
    label = label.to(torch.uint8)
    for start in range(step, K, step):
        values, index = enlarge(logits[:, start : start + step]).max(1)
        # Like argmax, treat NaN as the largest, and take the first in a tie.
        better = (values <= best).logical_not_().logical_and_(best == best)
        torch.maximum(best, values, out=best)
        torch.where(better, index.add_(start).to(torch.uint8), label, out=label)
    return label
