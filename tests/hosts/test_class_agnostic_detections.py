"""Boxes that suppress one another whatever their classes."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads

from resfu.hosts.mask_rcnn import MaskRCNN
from resfu.hosts.panoptic_fusion import ClassAgnosticRoIHeads
from tests.support.tiny_networks import DETECTOR, panoptic_fpn


def detections(kind: type[RoIHeads], proposals: Tensor, logits: Tensor) -> tuple[list[float], list[int]]:
    heads = kind(None, None, None, 0.5, 0.5, 8, 0.25, None, 0.05, 0.5, 100)
    deltas = torch.zeros(len(proposals), 4 * logits.shape[1])
    _, (scores,), (labels,) = heads.postprocess_detections(logits, deltas, [proposals], [(40, 100)])
    return scores.tolist(), labels.tolist()


def test_a_suppressed_box_suppresses_nobody() -> None:
    """B falls to A of another class; C, which overlaps only with B, stays."""
    boxes = torch.tensor([[0.0, 0, 30, 10], [8, 0, 38, 10], [16, 0, 46, 10]])  # overlaps: A B 0.58, B C 0.58, A C 0.30
    probabilities = torch.tensor([[0.1, 0.9, 0.0], [0.2, 0.0, 0.8], [0.3, 0.0, 0.7]])
    scores, labels = detections(ClassAgnosticRoIHeads, boxes, probabilities.log())
    assert scores == pytest.approx([0.9, 0.7])
    assert labels == [1, 2]
    assert detections(RoIHeads, boxes, probabilities.log())[1] == [1, 2]
    assert detections(RoIHeads, boxes, probabilities.log())[0] == pytest.approx([0.9, 0.8])


def test_an_image_without_a_proposal() -> None:
    assert detections(ClassAgnosticRoIHeads, torch.zeros(0, 4), torch.zeros(0, 4)) == ([], [])


def test_with_one_class_detections_are_torchvisions() -> None:
    torch.manual_seed(0)
    corners = torch.rand(40, 2) * torch.tensor([90.0, 30.0])
    boxes = torch.cat([corners, corners + 4 + 30 * torch.rand(40, 2)], 1)
    logits = torch.randn(40, 2)
    found, expected = (detections(kind, boxes, logits) for kind in (ClassAgnosticRoIHeads, RoIHeads))
    assert 5 < len(found[0]) < 40
    assert found == expected


def test_the_detector_suppresses_over_all_classes() -> None:
    settings = {"box_score_thresh": 0.1, "box_nms_thresh": 0.3, "box_detections_per_img": 7, "box_fg_iou_thresh": 0.6}
    plain = panoptic_fpn("nearest", **settings).roi_heads
    torch.manual_seed(0)
    theirs = MaskRCNN("nearest", **(DETECTOR | settings)).roi_heads
    assert type(plain) is ClassAgnosticRoIHeads
    for name in ("score_thresh", "nms_thresh", "detections_per_img"):
        assert getattr(plain, name) == getattr(theirs, name) == settings[f"box_{name}"]
    for name in ("proposal_matcher", "fg_bg_sampler", "box_coder"):
        assert vars(getattr(plain, name)) == vars(getattr(theirs, name))
