"""Fusion of instances and a semantic map into one segment for each pixel, by the rules of Panoptic FPN."""

from collections.abc import Mapping
from typing import NotRequired, Self, TypedDict

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import boxes as box_ops

from resfu.deploy.decisions import largest_class

_SMALLEST_BOX = 0.01  # pixels per side, as in torchvision


class PanopticSegment(TypedDict):
    """One segment, with the keys of the COCO panoptic format.

    Args:
        id: number of the segment in the map, from 1.
        category_id: class of the segment: things from 0 in the order of their labels, followed by stuff.
        isthing: 1 for things, 0 for stuff.
        area: in pixels.
        score: score of the detection; stuff has none.
    """

    id: int
    category_id: int
    isthing: int
    area: int
    score: NotRequired[float]


class Panoptic(TypedDict):
    """The segments of an image.

    Args:
        ids: int32 [H, W], the id of the segment at each pixel, 0 = void.
        segments: the segments, things before stuff, those with the best scores first.
    """

    ids: Tensor
    segments: list[PanopticSegment]


class ClassAgnosticRoIHeads(RoIHeads):
    """torchvision's heads with non-maximum suppression over all classes: no two detections overlap more than the limit.

    This differs from a second suppression after the one of each class by itself: there, a box that is later removed by
    a box of another class has already removed boxes of its own class.
    """

    @classmethod
    def like(cls, heads: RoIHeads) -> Self:
        """Make heads with the same layers and settings that suppress over all classes."""
        return cls(
            heads.box_roi_pool,
            heads.box_head,
            heads.box_predictor,
            heads.proposal_matcher.high_threshold,
            heads.proposal_matcher.low_threshold,
            heads.fg_bg_sampler.batch_size_per_image,
            heads.fg_bg_sampler.positive_fraction,
            heads.box_coder.weights,
            heads.score_thresh,
            heads.nms_thresh,
            heads.detections_per_img,
            heads.mask_roi_pool,
            heads.mask_head,
            heads.mask_predictor,
        )

    def postprocess_detections(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Choose detections.

        Args:
            class_logits: [N, 1 + num_classes] of all proposals; the first column is the background.
            box_regression: [N, 4 (1 + num_classes)].
            proposals: the proposals [n, 4] of every image.
            image_shapes: (H, W) of every image.

        Returns:
            Lists of boxes [m, 4], scores [m] and labels [m] of every image, the best first.
        """
        counts = [len(boxes) for boxes in proposals]
        all_scores = class_logits.softmax(-1).split(counts)
        all_boxes = self.box_coder.decode(box_regression, proposals)
        all_boxes = all_boxes.reshape(*class_logits.shape, 4).split(counts)  # decode does not reshape without proposals
        found: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for boxes, scores, shape in zip(all_boxes, all_scores, image_shapes, strict=True):
            rows, labels = torch.where(scores[:, 1:] > self.score_thresh)
            labels = labels + 1
            boxes, scores = box_ops.clip_boxes_to_image(boxes[rows, labels], shape), scores[rows, labels]
            large = box_ops.remove_small_boxes(boxes, _SMALLEST_BOX)
            kept = large[box_ops.nms(boxes[large], scores[large], self.nms_thresh)][: self.detections_per_img]
            for results, values in zip(found, (boxes, scores, labels), strict=True):
                results.append(values[kept])
        return found


def fuse(
    instances: Mapping[str, Tensor],
    semantic: Tensor,
    num_classes: int,
    score_threshold: float = 0.6,
    overlap_threshold: float = 0.5,
    stuff_area: int = 4096,
) -> Panoptic:
    """Assign every pixel to an instance, to stuff or to void.

    Instances are processed in the order of their scores. Each gets the pixels of its mask that are still free. If more
    than a share `overlap_threshold` of its mask is already taken, it gets none. The remaining pixels get the largest
    channel of the semantic map; where this is "things", or a class of stuff with too few pixels, they are void. Source:
    Kirillov et al., Panoptic Feature Pyramid Networks, CVPR 2019, with the numbers of mmdetection.

    Args:
        instances: "scores" [N], "labels" [N] from 1, and "masks" [N, 1, H, W] in 0..1, after suppression over all
            classes.
        semantic: logits [S + 1, H, W] of S classes of stuff and, last, "things".
        num_classes: number of classes of things.
        score_threshold: instances must have a score above this.
        overlap_threshold: largest share of an instance's mask that may be taken by others.
        stuff_area: least number of pixels of a class of stuff in the image.

    Returns:
        The map and its segments.

    Raises:
        ValueError: for masks and a semantic map of different sizes.
    """
    scores, labels, masks = instances["scores"], instances["labels"], instances["masks"]
    if masks.shape[-2:] != semantic.shape[-2:]:
        raise ValueError(
            f"masks and semantic map must have the same size, got {list(masks.shape)} and {list(semantic.shape)}."
        )
    ids = torch.zeros(semantic.shape[-2:], dtype=torch.int32, device=semantic.device)
    segments: list[PanopticSegment] = []
    order = scores.argsort(descending=True, stable=True)
    for i in order[scores[order] > score_threshold].tolist():
        mask = masks[i, 0] >= 0.5
        free = mask & (ids == 0)
        area, left = int(mask.sum()), int(free.sum())
        if area == 0 or area - left > overlap_threshold * area:
            continue
        number = len(segments) + 1
        ids[free] = number
        thing = int(labels[i]) - 1
        score = float(scores[i])
        segments.append({"id": number, "category_id": thing, "isthing": 1, "area": left, "score": score})
    free, strongest = ids == 0, largest_class(semantic[None])[0]
    areas = strongest[free].bincount(minlength=len(semantic)).tolist()
    for channel, area in enumerate(areas[:-1]):
        if area >= max(1, stuff_area):
            number = len(segments) + 1
            ids[free & (strongest == channel)] = number
            segments.append({"id": number, "category_id": num_classes + channel, "isthing": 0, "area": area})
    return {"ids": ids, "segments": segments}
