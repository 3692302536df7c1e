"""What a trained network gets right, image by image, so that any mean and any interval can be drawn from it later."""

from typing import Any

import torch

from benchmarks.evidence.protocol import DISTANCES
from resfu.evaluation.boundary import boundary_counts, boundary_distance
from resfu.evaluation.inference import resize_logits
from resfu.evaluation.label_maps import joint_histogram, merge_ignored

_PARTS = ("intersection", "union")


@torch.no_grad()
def image_counts(module: Any, batches: Any) -> dict[str, Any]:
    """Pixels in intersection and union by image and class.

    Args:
        module: a trained `LabelMapModule`.
        batches: of images and labels.

    Returns:
        "intersection", "union", "boundary_intersection", "boundary_union": lists [N][K] of pixels; the boundary band is
        2 % of the diagonal wide, as in mIoU's companion bIoU. "bands": for each width of `DISTANCES` the same two of
        the boundary summed over the images, [K].
    """
    K, module = module.host.num_classes, module.eval()
    found: dict[str, list[Any]] = {prefix + part: [] for prefix in ("", "boundary_") for part in _PARTS}
    bands = {distance: [torch.zeros(K, dtype=torch.int64) for _ in range(2)] for distance in DISTANCES}
    for batch in batches:
        size = batch["label"].shape[-2:]
        map_ = resize_logits(module.logits(batch["image"]), size).argmax(1)
        prediction, label = merge_ignored(map_, batch["label"], K, 255)
        pairs = joint_histogram(label, prediction, K + 1)[:, :K, :K]
        right = pairs.diagonal(dim1=1, dim2=2)
        areas = {"": (right, pairs.sum(1) + pairs.sum(2) - right)}
        areas["boundary_"] = boundary_counts(prediction, label, K, boundary_distance(*size))
        for prefix, (intersection, union) in areas.items():
            found[f"{prefix}intersection"] += intersection.tolist()
            found[f"{prefix}union"] += union.tolist()
        for distance, totals in bands.items():
            for total, counts in zip(totals, boundary_counts(prediction, label, K, distance), strict=True):
                total += counts.sum(0)
    sums = {str(distance): [total.tolist() for total in totals] for distance, totals in bands.items()}
    return {**found, "bands": sums}


def scores(counts: dict[str, Any], images: Any = slice(None)) -> dict[str, float]:
    """mIoU and bIoU in percent, as `resfu.evaluation.semantic` defines them.

    Args:
        counts: what `image_counts` gives.
        images: which images, as an index of a tensor [N]; one may be named several times.
    """
    found = {}
    for name, prefix in (("miou", ""), ("biou", "boundary_")):
        intersection, union = (torch.tensor(counts[f"{prefix}{part}"])[images].sum(0) for part in _PARTS)
        found[name] = (100 * intersection.double() / union).nanmean().item()
    return found


def class_scores(counts: dict[str, Any]) -> list[float]:
    """IoU of each class in percent, NaN where there is none."""
    intersection, union = (torch.tensor(counts[part]).sum(0) for part in _PARTS)
    return (100 * intersection.double() / union).tolist()


def curve(counts: dict[str, Any]) -> dict[int, float]:
    """Boundary IoU in percent by the width of the band in pixels."""
    return {
        int(width): (100 * torch.tensor(right).double() / torch.tensor(union)).nanmean().item()
        for width, (right, union) in counts["bands"].items()
    }
