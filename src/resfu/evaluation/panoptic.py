"""Panoptic quality."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resfu.evaluation.dataset_metric import DatasetMetric

VOID = 0

IdMap = Tensor | NDArray[np.integer[Any]]
Segments = Sequence[Mapping[str, Any]]


class PanopticCounts(NamedTuple):
    """Counts of an image's segments, by class.

    Args:
        iou: [K] float64, sum over the matched segments.
        matched: [K] int64, TP.
        spurious: [K] int64, FP.
        missed: [K] int64, FN.
    """

    iou: NDArray[np.float64]
    matched: NDArray[np.int64]
    spurious: NDArray[np.int64]
    missed: NDArray[np.int64]


class PanopticMetrics(DatasetMetric):
    """PQ, SQ and RQ of all images seen, in percent.

    For each class PQ = sum of IoU / (TP + FP/2 + FN/2), SQ = sum of IoU / TP, RQ = TP / (TP + FP/2 + FN/2). Means are
    over the classes with a labelled or predicted segment: all of them, things, and stuff. All states are sums, so
    processes reduce them exactly. `count_segments` defines TP, FP and FN.

    Args:
        num_things: number of classes of things, which come first.
        num_stuff: number of classes of stuff.
        **options: torchmetrics' own, see `torchmetrics.Metric`.

    Raises:
        ValueError: for a negative number, or no class at all.

    Source: Kirillov et al., "Panoptic Segmentation" (CVPR 2019), Eq. 1-2.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    iou: Tensor
    matched: Tensor
    spurious: Tensor
    missed: Tensor

    def __init__(self, num_things: int, num_stuff: int, **options: Any) -> None:
        super().__init__(**options)
        if min(num_things, num_stuff) < 0 or num_things + num_stuff < 1:
            raise ValueError(f"at least one class of things or stuff is needed, got {num_things} and {num_stuff}.")
        self.num_things = num_things
        self.num_classes = K = num_things + num_stuff
        self.add_state("iou", torch.zeros(K, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("matched", "spurious", "missed"):
            self.add_state(name, torch.zeros(K, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, ids: IdMap, segments: Segments, true_ids: IdMap, true_segments: Segments) -> None:
        """Add an image.

        Args:
            ids: predicted; see `count_segments` for all four.
            segments: predicted.
            true_ids: labelled.
            true_segments: labelled.

        Raises:
            ValueError: for invalid maps or segments, see `count_segments`.
        """
        counts = count_segments(ids, segments, true_ids, true_segments, self.num_classes)
        for name, values in counts._asdict().items():
            state = getattr(self, name)
            setattr(self, name, state + torch.from_numpy(values).to(state.device))

    def compute(self) -> dict[str, Any]:
        """All metrics of the images so far.

        Returns:
            "pq", "sq", "rq", and the same with "_things" and "_stuff": floats in percent, NaN without any segment.
            "pq_by_class", "sq_by_class", "rq_by_class": [K] float64 on the CPU, percent, NaN for a class without a
            segment.
        """
        iou, matched, spurious, missed = (
            state.cpu().double() for state in (self.iou, self.matched, self.spurious, self.missed)
        )
        whole = matched + (spurious + missed) / 2
        by_class = {
            "pq": 100 * iou / whole,
            # A class without a match counts 0; a class without a segment does not count.
            "sq": torch.where(whole > 0, 100 * iou / matched.clamp(min=1), torch.nan),
            "rq": 100 * matched / whole,
        }
        things = self.num_things
        groups = {"": slice(None), "_things": slice(things), "_stuff": slice(things, None)}
        means = {
            f"{name}{group}": values[chosen].nanmean().item()
            for group, chosen in groups.items()
            for name, values in by_class.items()
        }
        return {**means, **{f"{name}_by_class": values for name, values in by_class.items()}}


def count_segments(
    ids: IdMap, segments: Segments, true_ids: IdMap, true_segments: Segments, num_classes: int
) -> PanopticCounts:
    """Match the predicted segments of an image with the labelled ones, by the rules of COCO's panoptic evaluation.

    * Two segments of the same category match if the labelled one is not a crowd and the IoU is above 1/2. Predicted
      pixels on labelled void are left out of the union.
    * A labelled segment without a match is missed, unless it is a crowd.
    * A predicted segment without a match is spurious, unless more than half of it lies on labelled void or on the crowd
      of its category. If a category has several crowds in an image, the last one counts.

    Args:
        ids: integer [H, W], the predicted segment at each pixel, 0 for void.
        segments: "id" and "category_id" (0 to K - 1) of each.
        true_ids: integer [H, W], labelled.
        true_segments: the same, with "iscrowd".
        num_classes: K, things and stuff.

    Raises:
        ValueError: for maps of different sizes, pixels of a segment that is not listed, predicted segments without a
            pixel, an id given twice, or an unknown category.
    """
    found, true = _checked_map("predicted", ids), _checked_map("labelled", true_ids)
    if found.shape != true.shape:
        raise ValueError(f"the maps must have the same size, got {found.shape} predicted and {true.shape} labelled.")
    found_class = _classes("predicted", segments, num_classes)
    true_class = _classes("labelled", true_segments, num_classes)
    crowds = {entry["id"] for entry in true_segments if entry.get("iscrowd", 0)}
    overlap = _overlaps(true, found)
    area, true_area = dict.fromkeys(found_class, 0), dict.fromkeys(true_class, 0)
    for (true_id, found_id), pixels in overlap.items():
        _add(true_area, true_id, pixels, "labelled")
        _add(area, found_id, pixels, "predicted")
    if empty := [number for number, pixels in area.items() if not pixels]:
        raise ValueError(f"the predicted segment {empty[0]} has no pixel: leave it out of the list.")
    counts = PanopticCounts(np.zeros(num_classes), *(np.zeros(num_classes, dtype=np.int64) for _ in range(3)))
    matches: set[int] = set()
    true_matches: set[int] = set()
    for (true_id, found_id), pixels in overlap.items():
        if VOID in (true_id, found_id) or true_id in crowds or true_class[true_id] != found_class[found_id]:
            continue
        union = area[found_id] + true_area[true_id] - pixels - overlap.get((VOID, found_id), 0)
        if 2 * pixels > union:
            counts.iou[found_class[found_id]] += pixels / union
            counts.matched[found_class[found_id]] += 1
            matches.add(found_id)
            true_matches.add(true_id)
    crowd_of: dict[int, int] = {}
    for true_id, category in true_class.items():
        if true_id in crowds:
            crowd_of[category] = true_id
        elif true_id not in true_matches:
            counts.missed[category] += 1
    for found_id, category in found_class.items():
        excused = overlap.get((VOID, found_id), 0)
        if category in crowd_of:
            excused += overlap.get((crowd_of[category], found_id), 0)
        if found_id not in matches and 2 * excused <= area[found_id]:
            counts.spurious[category] += 1
    return counts


def _overlaps(true: NDArray[np.int64], found: NDArray[np.int64]) -> dict[tuple[int, int], int]:
    """Pixels of every pair of ids that occurs. Sorting the few runs of equal pairs is faster than sorting pixels."""
    pairs = (true << 32 | found).ravel()
    starts = np.concatenate(([0], np.flatnonzero(pairs[1:] != pairs[:-1]) + 1)) if pairs.size else np.zeros(0, np.int64)
    lengths = np.diff(starts, append=pairs.size)
    kinds, kind_of_run = np.unique(pairs[starts], return_inverse=True)
    pixels = np.bincount(kind_of_run, lengths, minlength=len(kinds))
    return {(kind >> 32, kind & 0xFFFFFFFF): int(count) for kind, count in zip(kinds.tolist(), pixels, strict=True)}


def _checked_map(name: str, ids: IdMap) -> NDArray[np.int64]:
    array = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"the {name} ids must be an integer [H, W], got {array.dtype} {list(array.shape)}.")
    if array.size and (array.min() < 0 or array.max() >= 2**31):
        raise ValueError(f"the {name} ids must be 0 to 2^31 - 1, got {array.min()} to {array.max()}.")
    return array.astype(np.int64)


def _classes(name: str, segments: Segments, num_classes: int) -> dict[int, int]:
    classes: dict[int, int] = {}
    for entry in segments:
        if entry["id"] in classes or entry["id"] == VOID:
            raise ValueError(f"the {name} segments have the id {entry['id']} twice, or it is {VOID}, which is void.")
        if not 0 <= entry["category_id"] < num_classes:
            raise ValueError(
                f"the {name} segment {entry['id']} has category {entry['category_id']}; categories are 0 to "
                f"{num_classes - 1}, things first."
            )
        classes[entry["id"]] = entry["category_id"]
    return classes


def _add(area: dict[int, int], number: int, pixels: int, name: str) -> None:
    if number == VOID:
        return
    if number not in area:
        raise ValueError(f"pixels have the id {number}, which is not among the {name} segments; void is {VOID}.")
    area[number] += pixels
