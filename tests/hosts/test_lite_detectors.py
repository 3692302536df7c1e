"""The detectors on EfficientNet-Lite0: their parts, their weights, what stays fixed, training and results."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

import resfu
from resfu.hosts import HOSTS, PANOPTIC_HOSTS
from resfu.hosts.efficientnet import MEAN, STD, EfficientNetLite
from resfu.hosts.mask_rcnn import MaskRCNN

NAMES = ("mask-rcnn-efficientnet-lite0", "panoptic-fpn-efficientnet-lite0")
FEW = {"rpn_post_nms_top_n_train": 10, "rpn_post_nms_top_n_test": 10, "box_detections_per_img": 5, "min_size": 64}


def build(name: str, upsampler: str = "resfu", **options: object) -> MaskRCNN:
    torch.manual_seed(0)
    stuff = {"stuff_classes": 3} if name in PANOPTIC_HOSTS else {}
    return HOSTS[name](upsampler=upsampler, **({"num_classes": 4, **FEW} | stuff | options))


def target(height: int, width: int) -> dict[str, Tensor]:
    masks = torch.zeros(1, height, width, dtype=torch.uint8)
    masks[:, 8:40, 8:48] = 1
    return {
        "boxes": torch.tensor([[8.0, 8.0, 48.0, 40.0]]),
        "labels": torch.tensor([2]),
        "masks": masks,
        "semantic": torch.full((height, width), 1),
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("upsampler", ["nearest", "resfu", "fade", "dysample", "stack-jbu"])
def test_images_of_any_size(name: str, upsampler: str) -> None:
    net = build(name, upsampler, box_score_thresh=0.0).eval()
    images = [torch.rand(3, 64, 75), torch.rand(3, 97, 70)]
    with torch.no_grad():
        found = net(images)
        pairs = net.upsampled_features(images)
    assert [result["masks"].shape[-2:] for result in found] == [(64, 75), (97, 70)]
    assert all(len(result["boxes"]) == 5 for result in found)
    assert [(k, *a.shape[1:], *b.shape[1:]) for k, (a, b) in pairs.items()] == [
        ("c4", 64, 4, 3, 64, 8, 6),
        ("c3", 64, 8, 6, 64, 16, 12),
        ("c2", 64, 16, 12, 64, 32, 24),
    ]


def test_the_network_sees_what_the_encoder_was_trained_on() -> None:
    net = build(NAMES[0], pretrained=True)
    encoder = EfficientNetLite(32)
    encoder.load(True)
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        want = encoder.eval()((images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))[1:]
        got = net.eval().backbone.body(net.transform(images)[0].tensors)
    assert list(got) == ["0", "1", "2", "3"]
    for a, b in zip(got.values(), want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_training_moves_all_but_what_is_fixed(name: str) -> None:
    net = build(name, pretrained=True)
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 1e-3)
    losses = net([torch.rand(3, 64, 96)], [target(64, 96)])
    sum(losses.values()).backward()
    optimizer.step()
    assert all(value.isfinite() for value in losses.values())
    moved = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    norms = {key for key in before if key.startswith("backbone.body.") and ("bn" in key)}
    start = {key for key in before if key.startswith("backbone.body.encoder.conv_stem")}
    start |= {key for key in before for number in range(2) if f"body.encoder.blocks.{number}." in key}
    assert len(norms) > 200
    assert not moved & (norms | start)
    assert "backbone.body.encoder.blocks.2.0.conv_pw.weight" in moved
    assert any("fpn.slots.c2" in key for key in moved)
    free = build(name, frozen=False)
    before = copy.deepcopy(free.state_dict())
    free([torch.rand(3, 64, 96)], [target(64, 96)])
    assert not torch.equal(
        free.state_dict()["backbone.body.encoder.bn1.running_mean"], before["backbone.body.encoder.bn1.running_mean"]
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_upsampler_changes_nothing_else_at_the_start(name: str) -> None:
    plain = build(name, "bilinear").state_dict()
    drawn = torch.rand(1)
    guided = build(name, "resfu").state_dict()
    assert plain.keys() < guided.keys()
    assert all(torch.equal(guided[key], value) for key, value in plain.items())
    assert torch.equal(torch.rand(1), drawn)  # nor what comes after the network


def test_weights_from_a_path(tmp_path: Path) -> None:
    encoder = EfficientNetLite(32)
    torch.save(encoder.state_dict(), tmp_path / "encoder.pth")
    net = build(NAMES[0], pretrained=str(tmp_path / "encoder.pth"))
    assert torch.equal(net.backbone.body.encoder.conv_stem.weight, encoder.conv_stem.weight)
    torch.save(net.state_dict(), tmp_path / "whole.pth")
    with pytest.warns(UserWarning, match=r"no weights for the semantic head .* they start untrained"):
        panoptic = build(NAMES[1], pretrained=str(tmp_path / "whole.pth"))
    assert torch.equal(
        panoptic.roi_heads.mask_predictor.mask_fcn_logits.weight, net.roi_heads.mask_predictor.mask_fcn_logits.weight
    )
    torch.save({"conv_stem.weight": encoder.conv_stem.weight}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"part\.pth do not fit this encoder; missing: bn1\.weight"):
        build(NAMES[0], pretrained=str(tmp_path / "part.pth"))


def test_by_name_and_what_is_refused() -> None:
    net = resfu.create_host(NAMES[1], "nearest", num_classes=9)
    assert (net.num_classes, net.stuff_classes) == (9, 53)
    with pytest.raises(ValueError, match="num_classes"):
        build(NAMES[0], num_classes=0)
    with pytest.raises(ValueError, match="has no setting nonsense"):
        build(NAMES[0], nonsense=1)
