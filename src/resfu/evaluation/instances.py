"""Mask AP, computed by COCO's own code."""

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed
from torch import Tensor

Engine = Literal["pycocotools", "faster-coco-eval"]

_NEEDED = ("image_id", "category_id", "segmentation", "area", "iscrowd")
METRICS = ("mask_ap", "ap50", "ap75", "ap_s", "ap_m", "ap_l")


class InstanceMetrics:
    """Average precision of masks, in percent: the mean over IoU .50 to .95, at .50, at .75, and by object size.

    Objects up to 32^2 pixels are small, up to 96^2 medium, above that large. The 100 best results of a category in an
    image count. Only images given to `update` are measured.

    Args:
        ground_truth: "images", "annotations" and "categories" in COCO's JSON format, from
            `InstanceDataset.ground_truth`; not changed.
        engine: "pycocotools", the reference, or "faster-coco-eval", which is faster and equal to 4 decimals.
        boundary: also measure boundary AP, in which the IoU of two masks is limited to that of their outlines, in a
            band of 2% of the image's diagonal; computed by faster-coco-eval.

    Raises:
        ValueError: for an unknown engine, a ground truth without one of the three, or an annotation that lacks a
            needed entry, naming it.

    Source: Lin et al., "Microsoft COCO" (ECCV 2014); Cheng et al., "Boundary IoU" (CVPR 2021).
    """

    def __init__(self, ground_truth: Mapping[str, Any], engine: Engine = "pycocotools", boundary: bool = False) -> None:
        if engine not in ("pycocotools", "faster-coco-eval"):
            raise ValueError(f"engine must be 'pycocotools' or 'faster-coco-eval', got {engine!r}.")
        missing = [key for key in ("images", "annotations", "categories") if key not in ground_truth]
        if missing:
            raise ValueError(
                f"the ground truth has no {', '.join(missing)}: give the result of dataset.ground_truth()."
            )
        for place, annotation in enumerate(ground_truth["annotations"]):
            if absent := [key for key in _NEEDED if annotation.get(key) is None]:
                raise ValueError(
                    f"annotation {annotation.get('id', f'at place {place}')} has no {', '.join(absent)}: give the "
                    "result of dataset.ground_truth(), which fills in what COCO files omit."
                )
        self.ground_truth = ground_truth
        self.engine: Engine = engine
        self.boundary = boundary
        self.category_ids = sorted(category["id"] for category in ground_truth["categories"])
        self._sizes = {image["id"]: [image["height"], image["width"]] for image in ground_truth["images"]}
        self._results: dict[int, list[dict[str, Any]]] = {}

    def update(
        self,
        image_id: int,
        masks: Tensor | Sequence[Mapping[str, Any]],
        scores: Tensor | Sequence[float],
        labels: Tensor | Sequence[int],
    ) -> None:
        """Add the results of an image, which may be empty; results given again for an image replace the first.

        Args:
            image_id: id of the image in the ground truth.
            masks: bool or uint8 [N, H, W], at the image's original size, or N run lengths {"size", "counts"} in the
                format of pycocotools.
            scores: [N], finite.
            labels: [N], 1 to the number of categories, by rising id.

        Raises:
            ValueError: for an unknown image or label, masks of another size or dtype, a score that is not finite, or
                different numbers of masks, scores and labels.
        """
        if image_id not in self._sizes:
            raise ValueError(f"the ground truth has no image {image_id!r}.")
        encoded = encode_masks(masks) if isinstance(masks, Tensor) else [dict(mask) for mask in masks]
        known = labels.tolist() if isinstance(labels, Tensor) else list(labels)
        listed = scores.tolist() if isinstance(scores, Tensor) else list(scores)
        if not len(encoded) == len(known) == len(listed):
            numbers = f"{len(encoded)}, {len(listed)} and {len(known)}"
            raise ValueError(f"every result needs a mask, a score and a label; got {numbers} of them.")
        for rle in encoded:
            if list(rle["size"]) != self._sizes[image_id]:
                raise ValueError(
                    f"a mask has size {list(rle['size'])}, but image {image_id} {self._sizes[image_id]}: resize the "
                    "masks to the image's original size."
                )
        if wrong := [label for label in known if not 1 <= label <= len(self.category_ids)]:
            raise ValueError(f"labels are 1 to {len(self.category_ids)}, got {wrong[0]}; 0 is the background.")
        if wrong := [score for score in listed if not math.isfinite(score)]:
            raise ValueError(f"scores rank the results and must be finite, got {wrong[0]}.")
        self._results[image_id] = [
            {"image_id": image_id, "category_id": self.category_ids[label - 1], "segmentation": rle, "score": score}
            for rle, label, score in zip(encoded, known, listed, strict=True)
        ]

    def results(self) -> list[dict[str, Any]]:
        """The results of all processes, each image once, in COCO's format for `write_instance_results`."""
        return [result for results in self._gathered().values() for result in results]

    def compute(self) -> dict[str, Any]:
        """All metrics over the images of all processes; every process must call it.

        Returns:
            "mask_ap", "ap50", "ap75", "ap_s", "ap_m", "ap_l": floats in percent, NaN without a labelled object.
            "ap_by_class": [K] float64, percent. With `boundary` each also as "boundary_mask_ap" and so on.
        """
        gathered = self._gathered()
        results = [result for image in gathered.values() for result in image]
        metrics = self._measure(self.engine, "segm", sorted(gathered), results)
        if self.boundary:
            outlines = self._measure("faster-coco-eval", "boundary", sorted(gathered), results)
            metrics |= {f"boundary_{name}": value for name, value in outlines.items()}
        return metrics

    def reset(self) -> None:
        """Discard all results."""
        self._results.clear()

    def _gathered(self) -> dict[int, list[dict[str, Any]]]:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self._results
        shares: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(shares, self._results)
        return {image: results for share in shares for image, results in share.items()}

    def _measure(
        self, engine: Engine, kind: Literal["segm", "boundary"], images: list[int], results: list[dict[str, Any]]
    ) -> dict[str, Any]:
        if engine == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        else:
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as COCOeval

        def index(annotations: list[dict[str, Any]]) -> Any:
            coco: Any = COCO()
            listed = {key: self.ground_truth[key] for key in ("images", "categories")}
            coco.dataset = {"info": {}, **listed, "annotations": annotations}
            coco.createIndex()
            return coco

        # Both packages write into the annotations, and pycocotools reads id 0 as "no match".
        truth = [{**entry, "id": number} for number, entry in enumerate(self.ground_truth["annotations"], start=1)]
        with contextlib.redirect_stdout(io.StringIO()):
            labelled = index(truth)
            # loadRes cannot take an empty list.
            found = labelled.loadRes([dict(result) for result in results]) if results else index([])
            evaluator: Any = COCOeval(labelled, found, kind)  # pyright: ignore[reportArgumentType]
            evaluator.params.imgIds = images
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        precision = evaluator.eval["precision"][:, :, :, 0, -1]  # thresholds, recalls, classes
        by_class = np.where(precision > -1, precision, np.nan)
        # -1 marks classes and sizes without a labelled object.
        by_class = [100 * float(np.mean(column)) for column in np.moveaxis(by_class, 2, 0)]
        values = [100 * float(value) if value > -1 else float("nan") for value in evaluator.stats[:6]]
        return {
            **dict(zip(METRICS, values, strict=True)),
            "ap_by_class": torch.tensor(by_class, dtype=torch.float64),
        }


def encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """Encode masks as run lengths.

    Args:
        masks: bool or uint8 [N, H, W], 0 or 1.

    Returns:
        {"size": [H, W], "counts": str} for each, ready for JSON.

    Raises:
        ValueError: for another shape or dtype.
    """
    if masks.dim() != 3 or masks.dtype not in (torch.bool, torch.uint8):
        raise ValueError(
            f"masks must be bool or uint8 [N, H, W], got {masks.dtype} {list(masks.shape)}; torchvision's "
            "probabilities become such masks by masks[:, 0] >= 0.5."
        )
    from pycocotools import mask

    # pycocotools reads [H, W, N] column by column.
    columns = np.asfortranarray(masks.detach().cpu().numpy().astype(np.uint8).transpose(1, 2, 0))
    return [
        {"size": list(rle["size"]), "counts": bytes(rle["counts"]).decode()}  # pyright: ignore[reportArgumentType]
        for rle in mask.encode(columns)
    ]
