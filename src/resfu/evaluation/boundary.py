"""Boundary IoU of semantic maps: the agreement of outlines, in a band inside every region."""

import math

import torch
from torch import Tensor

from resfu.evaluation.label_maps import joint_histogram


def boundary_distance(height: int, width: int, ratio: float = 0.02) -> int:
    """Width of the band in pixels: d = max(1, round(ratio * diagonal))."""
    return max(1, round(ratio * math.hypot(height, width)))


def boundary_band(labels: Tensor, distance: int) -> Tensor:
    """Pixels within `distance` of the border of their own region, for all classes at once.

    The band is what d erosions of a class mask by 3 x 3 ones, with zero padding, remove. A pixel is removed if and only
    if its (2d + 1)^2 window leaves the image or contains a second label, and a window has a single label if and only if
    each of its 2 x 2 blocks has. So: mark the mixed 2 x 2 blocks, and dilate the marks over 2d x 2d blocks, doubling
    the reach at each step.

    Args:
        labels: [..., H, W], integer; every id is a label of its own, even an ignored one.
        distance: d, in pixels, at least 1.

    Returns:
        [..., H, W] bool. The image's outermost d pixels always belong to the band.

    Raises:
        ValueError: for a distance below 1.

    Source: the band of Cheng et al., "Boundary IoU" (CVPR 2021), Eq. 1-3.
    """
    if distance < 1:
        raise ValueError(f"distance must be at least 1 pixel, got {distance}.")
    H, W = labels.shape[-2:]
    band = torch.ones(labels.shape, dtype=torch.bool, device=labels.device)
    if min(H, W) <= 2 * distance:
        return band
    across = labels[..., 1:] != labels[..., :-1]
    down = labels[..., 1:, :] != labels[..., :-1, :]
    mixed = across[..., 1:, :] | across[..., :-1, :] | down[..., 1:] | down[..., :-1]
    spread = _any_in_window(_any_in_window(mixed, 2 * distance, -1), 2 * distance, -2)
    band[..., distance : H - distance, distance : W - distance] = spread
    return band


def boundary_counts(prediction: Tensor, label: Tensor, num_classes: int, distance: int) -> tuple[Tensor, Tensor]:
    """Pixels in the intersection and in the union of the predicted and the labelled band, by image and class.

    The bands are computed on the full maps, where the ignored region is a region like others. Then the ignored pixels
    are dropped from both.

    Args:
        prediction: [B, H, W], int32 or int64, ids 0..K-1.
        label: [B, H, W], the same, ids 0..K, where K is ignored, from `merge_ignored`.
        num_classes: K.
        distance: width of the band in pixels.

    Returns:
        Intersection and union, both [B, K] int64.
    """
    outside, valid = num_classes, label != num_classes
    labelled = torch.where(boundary_band(label, distance), label, outside)
    predicted = torch.where(boundary_band(prediction, distance) & valid, prediction, outside)
    pairs = joint_histogram(labelled, predicted, num_classes + 1)
    intersection = pairs.diagonal(dim1=1, dim2=2)
    union = pairs.sum(2) + pairs.sum(1) - intersection
    return intersection[:, :num_classes], union[:, :num_classes]


def _any_in_window(marks: Tensor, size: int, dim: int) -> Tensor:
    """OR over each window of `size` entries that fits; the result is size - 1 shorter."""
    covered = 1
    while covered < size:
        step = min(covered, size - covered)
        length = marks.shape[dim] - step
        marks = marks.narrow(dim, 0, length) | marks.narrow(dim, step, length)
        covered += step
    return marks
