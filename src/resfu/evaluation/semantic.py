"""Metrics of semantic segmentation, accumulated over the whole data set."""

from typing import Any

import torch
from torch import Tensor

from resfu.evaluation.boundary import boundary_counts, boundary_distance
from resfu.evaluation.dataset_metric import DatasetMetric
from resfu.evaluation.label_maps import joint_histogram, merge_ignored
from resfu.hosts.ignored import IGNORE_INDEX


class SemanticMetrics(DatasetMetric):
    """mIoU, mAcc, aAcc and boundary IoU of all images seen, in percent.

    With I, P, G the correct, predicted and labelled pixels of a class, summed over the data set without ignored pixels:
    IoU = I / (P + G - I), Acc = I / G, aAcc = sum I / sum G. Means leave out classes without a value: a class that is
    neither labelled nor predicted does not count; one that is predicted but never labelled counts 0 in mIoU and does
    not count in mAcc. All states are sums, so processes can reduce them.

    Boundary IoU is the IoU of the bands inside the outlines, summed over all images, see `resfu.evaluation.boundary`.

    Args:
        num_classes: K.
        ignore_index: label of the ignored pixels, not one of the classes.
        boundary_ratio: width of the band, as a fraction of the image's diagonal.
        **options: torchmetrics' own, see `torchmetrics.Metric`.

    Raises:
        ValueError: for a class count or ratio that is not positive, or an ignored class.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusion: Tensor
    boundary_intersection: Tensor
    boundary_union: Tensor

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = IGNORE_INDEX,
        boundary_ratio: float = 0.02,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}.")
        if 0 <= ignore_index < num_classes:
            raise ValueError(
                f"ignore_index = {ignore_index} is one of the classes 0 to {num_classes - 1}: choose another label, "
                "such as -1."
            )
        if not boundary_ratio > 0:
            raise ValueError(f"boundary_ratio must be above 0, got {boundary_ratio}.")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.boundary_ratio = boundary_ratio
        K = num_classes
        self.add_state("confusion", torch.zeros(K, K, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("boundary_intersection", torch.zeros(K, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("boundary_union", torch.zeros(K, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: [B, H, W], int64, ids 0..K-1, at the label's size.
            label: [B, H, W], int64, ids 0..K-1 or `ignore_index`.

        Raises:
            ValueError: for float or boolean maps, shapes that differ, or ids out of range (the message names them).
        """
        K = self.num_classes
        prediction, label = merge_ignored(prediction, label, K, self.ignore_index)
        self.confusion += joint_histogram(label, prediction, K + 1).sum(0)[:K, :K]
        H, W = label.shape[-2:]
        distance = boundary_distance(H, W, self.boundary_ratio)
        intersection, union = boundary_counts(prediction, label, K, distance)
        self.boundary_intersection += intersection.sum(0)
        self.boundary_union += union.sum(0)

    def compute(self) -> dict[str, Any]:
        """All metrics of the images so far.

        Returns:
            "miou", "macc", "aacc", "biou": floats in percent, NaN without data. "iou", "acc", "boundary_iou": [K]
            float64 on the CPU, percent by class, NaN for a class without a value.
        """
        confusion = self.confusion.cpu().double()
        right, labelled, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        iou = 100 * right / (labelled + predicted - right)
        acc = 100 * right / labelled
        boundary_iou = 100 * self.boundary_intersection.cpu().double() / self.boundary_union.cpu()
        return {
            "miou": iou.nanmean().item(),
            "macc": acc.nanmean().item(),
            "aacc": (100 * right.sum() / labelled.sum()).item(),
            "biou": boundary_iou.nanmean().item(),
            "iou": iou,
            "acc": acc,
            "boundary_iou": boundary_iou,
        }
