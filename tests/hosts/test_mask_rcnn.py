"""Mask R-CNN: sizes, torchvision's numbers, the wiring of the slots, weights, and images and targets of every kind."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

import resfu
from resfu.hosts.fpn import UpsamplingFPN
from resfu.hosts.mask_rcnn import MaskRCNN
from resfu.hosts.slot import SlotFactory
from resfu.upsamplers.jbu import JBU, StackJBU
from tests.support.tiny_networks import CLASSES, DETECTOR, count, mask_rcnn


def target(height: int, width: int, objects: int) -> dict[str, Tensor]:
    masks = torch.zeros(objects, height, width, dtype=torch.uint8)
    masks[:, 2 : height // 2, 3 : width // 2] = 1
    box = torch.tensor([3.0, 2.0, width // 2, height // 2])
    return {"boxes": box.repeat(objects, 1), "labels": torch.arange(objects) % CLASSES + 1, "masks": masks}


def test_published_parameters() -> None:
    """torchvision publishes 44,401,393 for COCO's 91 outputs and fixed batch normalisation."""
    with torch.device("meta"):
        published = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"]
        assert count(MaskRCNN("nearest", num_classes=90, frozen=True)) == published
        plain = maskrcnn_resnet50_fpn(num_classes=81, weights=None, weights_backbone=None)
        net = resfu.create_host("mask-rcnn-resnet50", upsampler="nearest")
        assert net.num_classes == 80
        assert count(net) == count(plain) == 44_400_693
        assert list(net.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize(
    ("upsampler", "options", "addition"),
    [
        ("bilinear", {}, 0),
        ("deconv", {}, 3 * (256 * 256 * 4 + 256)),
        ("pixelshuffle", {}, 3 * (256 * 256 * 4 + 256 * 4)),
        ("carafe", {}, 3 * (64 * 256 + 64 + 64 * 100 * 9 + 100)),
        ("indexnet", {}, 12_601_344 // 2),  # half of SegFormer's six modules
        ("fade", {}, 141_771),  # as in MaskFormer's pyramid
        ("sapa", {}, 3 * (4 * 256 + 2 * (256 * 32 + 32))),
        ("dysample", {}, 3 * (32 * 256 + 32 + 32 * 256)),
        ("dysample", {"style": "pl"}, 3 * (64 * 8 + 8 + 64 * 8)),
        ("stack-jbu", {}, 84_491),
        ("resfu", {}, 142_710),
    ],
)
def test_upsamplers_add_three_modules_of_256_channels(
    upsampler: str, options: dict[str, object], addition: int
) -> None:
    with torch.device("meta"):
        net = resfu.create_host("mask-rcnn-resnet50", upsampler=upsampler, upsampler_options=options)
    assert count(net) - 44_400_693 == addition


def test_with_nearest_the_pyramid_is_torchvisions_to_the_bit() -> None:
    torch.manual_seed(0)
    widths, sizes = (5, 6, 7, 20), ((25, 37), (13, 19), (7, 10), (4, 5))
    theirs = FeaturePyramidNetwork(list(widths), 32, LastLevelMaxPool())
    ours = UpsamplingFPN(widths, SlotFactory("nearest"), channels=32)
    ours.load_state_dict(theirs.state_dict())
    levels = OrderedDict(
        (str(i), torch.randn(2, c, *size)) for i, (c, size) in enumerate(zip(widths, sizes, strict=True))
    )
    with torch.no_grad():
        found, expected = ours(levels, torch.randn(2, 3, 100, 148)), theirs(levels)
    assert list(found) == list(expected) == ["0", "1", "2", "3", "pool"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("training", [False, True])
def test_with_nearest_the_network_is_torchvisions_to_the_bit(training: bool) -> None:
    ours = mask_rcnn("nearest", layers=(3, 4, 6, 3), rpn_post_nms_top_n_train=12).train(training)
    settings = {name: value for name, value in DETECTOR.items() if name != "layers"}
    levels = ["0", "1", "2", "3"]
    settings |= {"rpn_post_nms_top_n_train": 12, "box_roi_pool": MultiScaleRoIAlign(levels, 7, 0)}
    settings |= {"mask_roi_pool": MultiScaleRoIAlign(levels, 14, 0)}
    theirs = maskrcnn_resnet50_fpn(num_classes=CLASSES + 1, weights=None, weights_backbone=None, **settings)
    theirs.train(training).load_state_dict(ours.state_dict())
    images = [torch.rand(3, 70, 90), torch.rand(3, 64, 50)]
    targets = [target(70, 90, 2), target(64, 50, 1)] if training else None
    with torch.no_grad():
        found, expected = [(torch.manual_seed(1), net(images, targets))[1] for net in (ours, theirs)]
    if training:
        assert {name: value.item() for name, value in found.items()} == {k: v.item() for k, v in expected.items()}
        return
    for one, other in zip(found, expected, strict=True):
        assert len(one["boxes"]) > 0
        assert list(one) == list(other) == ["boxes", "labels", "scores", "masks"]
        assert all(torch.equal(one[name], other[name]) for name in other)


def calls(net: MaskRCNN, images: Tensor) -> tuple[list[Tensor], dict[str, tuple[nn.Module, Tensor, tuple]]]:
    """The laterals, C1's first, and what each slot's upsampler gets: itself, its guidance and its target size."""
    seen = {}
    for name, slot in net.backbone.fpn.slots.items():

        def record(module: nn.Module, args: tuple, kwargs: dict, name: str = name) -> None:
            guidance = args[1] if isinstance(args[1], Tensor) else args[1][0]
            seen[name] = (module, guidance, kwargs["size"])

        slot.upsampler.register_forward_pre_hook(record, with_kwargs=True)
    with torch.no_grad():
        net.backbone(images)
        levels = net.backbone.body(images).values()
        return [block(level) for block, level in zip(net.backbone.fpn.inner_blocks, levels, strict=True)], seen


def test_resfu_is_guided_by_c1_in_every_step() -> None:
    (c1, *_), seen = calls(mask_rcnn("resfu").eval(), torch.randn(1, 3, 96, 160))
    assert list(seen) == ["c4", "c3", "c2"]
    for (_, guidance, size), step in zip(seen.values(), (4, 2, 1), strict=True):
        assert size == (24 // step, 40 // step)
        torch.testing.assert_close(guidance, F.avg_pool2d(c1, step))


@pytest.mark.parametrize(("upsampler", "options"), [("sapa", {}), ("resfu", {"iterative": True})])
def test_the_others_are_guided_by_the_lateral_of_the_step(upsampler: str, options: dict[str, object]) -> None:
    laterals, seen = calls(mask_rcnn(upsampler, upsampler_options=options).eval(), torch.randn(1, 3, 64, 96))
    for (_, guidance, _), lateral in zip(seen.values(), laterals[-2::-1], strict=True):
        torch.testing.assert_close(guidance, lateral)


def test_stack_jbu_is_one_chain_with_one_correction() -> None:
    images = torch.randn(1, 3, 96, 160)
    _, seen = calls(mask_rcnn("stack-jbu").eval(), images)
    assert [type(module) for module, _, _ in seen.values()] == [JBU, JBU, StackJBU]
    for (_, guidance, _), stride in zip(seen.values(), (16, 8, 4), strict=True):
        torch.testing.assert_close(guidance, F.avg_pool2d(images, stride))


@pytest.mark.parametrize("upsampler", list(resfu.UPSAMPLERS))
def test_images_of_any_size_and_none(upsampler: str) -> None:
    narrow = {"naf": {"dim": 64}, "anyup": {"dim": 32}}.get(upsampler)
    net = mask_rcnn(upsampler, upsampler_options=narrow).eval()
    images = [torch.rand(3, 50, 71), torch.rand(3, 1, 1), torch.rand(3, 3, 200)]
    with torch.no_grad():
        found = net(images)
        assert net([]) == []
        net(images[2:])  # alone: 1 x 96 after resizing
        pairs = net.upsampled_features(images[:2])
    for result, image in zip(found, images, strict=True):
        number = len(result["boxes"])
        assert result["masks"].shape == (number, 1, *image.shape[-2:])
        assert all(value.isfinite().all() for value in result.values())
        assert result["labels"].numel() == 0 or 1 <= result["labels"].min() <= result["labels"].max() <= CLASSES
    assert len(found[0]["boxes"]) > 0
    # Not resized here: 50 x 71 continued to 64 x 96.
    assert {name: tuple(high.shape[-2:]) for name, (_, high) in pairs.items()} == {
        "c4": (4, 6),
        "c3": (8, 12),
        "c2": (16, 24),
    }


def test_upsampled_features_are_what_goes_in_and_out_of_the_slots() -> None:
    net = mask_rcnn("bilinear").eval()
    with torch.no_grad():
        pairs = net.upsampled_features(torch.rand(1, 3, 64, 96))
    for low, high in pairs.values():
        torch.testing.assert_close(high, F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False))


@pytest.mark.parametrize("objects", [(2, 1), (1, 0), (0, 0)])
def test_training_with_and_without_objects(objects: tuple[int, int]) -> None:
    net = mask_rcnn()
    losses = net(
        [torch.rand(3, 50, 70), torch.rand(3, 64, 80)], [target(50, 70, objects[0]), target(64, 80, objects[1])]
    )
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}
    assert all(loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name.startswith("backbone.") and ".upsampler." not in name:
            assert parameter.grad.abs().max() > 0, name


def test_the_upsampler_changes_nothing_else_at_the_start() -> None:
    plain, guided = mask_rcnn("bilinear").state_dict(), mask_rcnn("resfu").state_dict()
    assert set(guided) - set(plain) == {name for name in guided if name.startswith("backbone.fpn.slots.")}
    assert all(torch.equal(guided[name], value) for name, value in plain.items())


def test_under_autocast_boxes_are_not_rounded() -> None:
    net = mask_rcnn().eval()
    images = [torch.rand(3, 90, 60)]
    seen = []
    net.roi_heads.register_forward_pre_hook(lambda module, args: seen.append(args[1][0]))
    net.rpn.anchor_generator.register_forward_hook(lambda module, args, anchors: seen.append(anchors[0]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert net.backbone.body(torch.rand(1, 3, 64, 64))["3"].dtype == torch.bfloat16
        (found,) = net(images)
    anchors, proposals = seen
    assert anchors.dtype == torch.float32
    for boxes in (proposals, found["boxes"]):
        assert boxes.dtype == torch.float32
        assert (boxes != boxes.bfloat16().float()).any()
    net.train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = net(images, [target(90, 60, 1)])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"\[3, H, W\] each"),
        (torch.zeros(1, 4, 8, 8), r"got \[4, 8, 8\]"),
        ([torch.zeros(3, 8, 8, dtype=torch.uint8)], "divide by 255"),
        ([torch.zeros(3, 0, 8)], "at least one pixel"),
        ([torch.zeros(3, 2, 300)], "2 x 300 pixels vanishes .*max_size=96"),
    ],
)
def test_bad_images(images: Tensor | list[Tensor], message: str) -> None:
    net = mask_rcnn("nearest").eval()
    for call in (net, net.upsampled_features):
        with pytest.raises(ValueError, match=message):
            call(images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": torch.zeros(0)}, r"boxes \[1, 4\]"),
        ({"masks": torch.ones(1, 8, 8)}, r"masks \[1, 40, 50\]; got .*\[1, 8, 8\]"),
        ({"boxes": torch.tensor([[5.0, 5.0, 5.0, 9.0]])}, "x1 < x2"),
        ({"boxes": torch.tensor([[5.0, 5.0, float("nan"), 9.0]])}, "x1 < x2"),
        ({"boxes": torch.tensor([[5.0, 5.0, float("inf"), 9.0]])}, "count pixels of the image of"),
        ({"boxes": torch.tensor([[-1e8, 5.0, 9.0, 9.0]])}, "count pixels of the image of"),
        ({"boxes": torch.tensor([[5, 5, 9, 9]])}, "boxes must be floating point"),
        ({"labels": torch.tensor([0])}, r"labels must lie in 1\.\.4 .*got \[0\]"),
        ({"labels": torch.tensor([5])}, r"got \[5\]"),
    ],
)
def test_bad_targets(changes: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mask_rcnn("nearest")([torch.rand(3, 40, 50)], [target(40, 50, 1) | changes])


def test_missing_targets_and_bad_arguments() -> None:
    net = mask_rcnn("nearest")
    with pytest.raises(ValueError, match=r"1 images and none targets. Call \.eval\(\)"):
        net([torch.rand(3, 40, 50)])
    with pytest.raises(ValueError, match="at least one image"):
        net([], [])
    with pytest.raises(ValueError, match="it lacks masks"):
        net([torch.rand(3, 40, 50)], [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}])
    with pytest.raises(ValueError, match="at least one image"):
        net.upsampled_features([])
    with pytest.raises(ValueError, match=r"no setting box_score_threshold; torchvision's are .*box_score_thresh,"):
        mask_rcnn(box_score_threshold=0.5)
    with pytest.raises(ValueError, match="num_classes must be an int from 1, got 0"):
        mask_rcnn(num_classes=0)
    with pytest.raises(ValueError, match=r"unknown upsampler 'bicubik'"):
        mask_rcnn("bicubik")
