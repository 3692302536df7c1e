"""Panoptic FPN: sizes, the semantic head and its loss, the fusion against another way of writing it, the outputs."""

import random
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import resfu
from resfu.hosts.mask_rcnn import MaskRCNN
from resfu.hosts.panoptic_fusion import Panoptic, fuse
from tests.support.tiny_networks import DETECTOR, STUFF, THINGS, count, panoptic_fpn

VOID = 255


def target(height: int, width: int, objects: int) -> dict[str, Tensor]:
    masks = torch.zeros(objects, height, width, dtype=torch.uint8)
    masks[:, 2 : height // 2, 3 : width // 2] = 1
    semantic = torch.randint(STUFF, (height, width))
    semantic[masks.bool().any(0)] = STUFF
    semantic[:3] = VOID
    return {
        "boxes": torch.tensor([[3.0, 2.0, width // 2, height // 2]]).repeat(objects, 1),
        "labels": torch.arange(objects) % THINGS + 1,
        "masks": masks,
        "semantic": semantic,
    }


@pytest.mark.parametrize(("upsampler", "addition"), [("nearest", 0), ("carafe", 222_444), ("resfu", 142_710)])
def test_published_parameters(upsampler: str, addition: int) -> None:
    """Mask R-CNN and 1.6308 M: 7 convolutions of 3 x 3 (4 from 256 channels) with GroupNorm, 54 logits."""
    with torch.device("meta"):
        net = resfu.create_host("panoptic-fpn-resnet50", upsampler=upsampler)
    head = 4 * 256 * 128 * 9 + 3 * 128 * 128 * 9 + 7 * 2 * 128 + 128 * 54 + 54
    assert count(net.semantic_head) == head == 1_630_774
    assert count(net) - addition == 44_400_693 + head == 46_031_467
    assert (net.num_classes, net.stuff_classes) == (80, 53)


def test_the_semantic_loss_counts_half() -> None:
    net = panoptic_fpn("nearest").eval()  # batch normalisation stays as it is
    net.training = True
    image, wanted = torch.rand(3, 64, 96), target(64, 96, 1)
    features = net.backbone(net.transform.normalize(image)[None])
    whole = F.cross_entropy(net.semantic_head(features), wanted["semantic"][None, 2::4, 2::4], ignore_index=VOID)
    torch.testing.assert_close(net([image], [wanted])["loss_semantic"], 0.5 * whole)


# The fusion once more: with sets of pixels.
def fused_by_hand(
    instances: dict[str, Tensor], semantic: Tensor, score_threshold: float, overlap: float, stuff_area: int
) -> list[tuple[int, int, frozenset[int]]]:
    """(category, is a thing, pixels) of every segment."""
    scores = instances["scores"].tolist()
    taken: set[int] = set()
    segments = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        pixels = {n for n, value in enumerate(instances["masks"][i].flatten().tolist()) if value >= 0.5}
        if scores[i] > score_threshold and pixels and len(pixels & taken) / len(pixels) <= overlap:
            segments.append((int(instances["labels"][i]) - 1, 1, frozenset(pixels - taken)))
            taken |= pixels
    columns = semantic.flatten(1).T.tolist()
    for channel in range(semantic.shape[0] - 1):
        won = frozenset(n for n, c in enumerate(columns) if n not in taken and c.index(max(c)) == channel)
        if won and len(won) >= stuff_area:
            segments.append((THINGS + channel, 0, won))
    return segments


def as_sets(found: Panoptic) -> list[tuple[int, int, frozenset[int]]]:
    ids = found["ids"].flatten().tolist()
    assert found["ids"].dtype == torch.int32
    assert [segment["id"] for segment in found["segments"]] == list(range(1, len(found["segments"]) + 1))
    assert set(ids) <= set(range(len(found["segments"]) + 1))
    sets = []
    for segment in found["segments"]:
        pixels = frozenset(n for n, number in enumerate(ids) if number == segment["id"])
        assert segment["area"] == len(pixels)
        assert ("score" in segment) == bool(segment["isthing"])
        sets.append((segment["category_id"], segment["isthing"], pixels))
    return sets


@pytest.mark.parametrize("seed", range(30))
def test_fusion_of_random_images(seed: int) -> None:
    draw = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    number, height, width = draw.randrange(7), draw.randrange(1, 12), draw.randrange(1, 12)
    masks = torch.rand(number, 1, height, width, generator=generator)
    for mask in masks:  # rectangles of high values, so that there are real overlaps
        y, x = draw.randrange(height), draw.randrange(width)
        mask[0, y : y + draw.randrange(9), x : x + draw.randrange(9)] += 0.4
        mask -= 0.4 * draw.random()
    instances = {
        "scores": torch.rand(number, generator=generator),
        "labels": torch.randint(1, THINGS + 1, (number,), generator=generator),
        "masks": masks,
    }
    semantic = torch.randn(STUFF + 1, height, width, generator=generator)
    settings = (draw.choice([0.0, 0.4, 0.6]), draw.choice([0.3, 0.5]), draw.choice([0, 1, 8, 30]))
    assert as_sets(fuse(instances, semantic, THINGS, *settings)) == fused_by_hand(instances, semantic, *settings)


def test_fusion_at_its_limits() -> None:
    """4 x 4 pixels: what is exactly at a threshold, and who wins."""

    def rows(*numbers: int) -> Tensor:
        mask = torch.zeros(1, 4, 4)
        mask[0, list(numbers)] = 1
        return mask

    instances = {
        "scores": torch.tensor([0.9, 0.8, 0.7, 0.6]),
        "labels": torch.tensor([2, 1, 3, 1]),
        "masks": torch.stack([rows(0, 1), rows(1, 2), rows(0, 1, 2), rows(3)]),
    }
    semantic = torch.zeros(STUFF + 1, 4, 4)
    semantic[1, 3, :3] = 1  # three pixels of stuff 1, one of "things", and stuff 0 under the instances
    semantic[STUFF, 3, 3] = 1
    # 0.9 takes rows 0, 1. Half of 0.8 is taken: no more than the limit, it gets row 2. All of 0.7 is taken.
    # 0.6 does not score above 0.6. Stuff 1 has just 3 pixels; the last pixel is void.
    found = fuse(instances, semantic, THINGS, stuff_area=3)
    assert found["ids"].tolist() == [[1] * 4, [1] * 4, [2] * 4, [3, 3, 3, 0]]
    assert [(s["category_id"], s["isthing"], s["area"]) for s in found["segments"]] == [(1, 1, 8), (0, 1, 4), (5, 0, 3)]
    assert [s.get("score") for s in found["segments"]] == [pytest.approx(0.9), pytest.approx(0.8), None]
    assert fuse(instances, semantic, THINGS, stuff_area=4)["ids"][3].tolist() == [0] * 4
    assert fuse(instances, semantic, THINGS, 0.59, stuff_area=4)["ids"][3].tolist() == [3] * 4
    with pytest.raises(ValueError, match="must have the same size"):
        fuse(instances, semantic[:, :3], THINGS)


def test_what_comes_out_fits_together() -> None:
    net = panoptic_fpn().eval()
    images = [torch.rand(3, 50, 71), torch.rand(3, 1, 1), torch.rand(3, 3, 200)]
    with torch.no_grad():
        results = net(images)
        assert net([]) == []
    things = 0
    for image, result in zip(images, results, strict=True):
        size = image.shape[-2:]
        assert list(result) == ["boxes", "labels", "scores", "masks", "semantic", "panoptic"]
        assert result["semantic"].shape == (STUFF + 1, *size)
        instances = {name: result[name] for name in ("scores", "labels", "masks")}
        found = as_sets(result["panoptic"])
        assert result["panoptic"]["ids"].shape == size
        assert found == fused_by_hand(instances, result["semantic"], 0.0, 0.5, 30)
        things += sum(isthing for _, isthing, _ in found)
    assert things > 0
    with torch.no_grad():
        (strict,) = panoptic_fpn(score_threshold=1.0, stuff_area=10_000).eval()(images[:1])
    assert strict["panoptic"]["segments"] == []
    assert (strict["panoptic"]["ids"] == 0).all()


def test_the_semantic_map_lies_where_the_image_lies() -> None:
    """Padding is cut off before the map goes back to the image's size: coordinates in, coordinates out."""
    net = panoptic_fpn("nearest").eval()

    class Ramp(nn.Module):
        def forward(self, pyramid: dict[str, Tensor]) -> Tensor:
            _, _, h, w = pyramid["0"].shape
            y, x = 4 * torch.arange(h) + 2.0, 4 * torch.arange(w) + 2.0  # in pixels of the resized image
            maps = torch.stack([y[:, None].expand(h, w), x.expand(h, w)])
            return maps.repeat(2, 1, 1)[None].expand(len(pyramid["0"]), -1, -1, -1)

    net.semantic_head = Ramp()
    with torch.no_grad():
        results = net([torch.rand(3, 100, 150), torch.rand(3, 32, 33)])
    # 100 x 150 becomes 64 x 96, and 32 x 33 becomes 64 x 66, continued to 96.
    for result, size, ratio in zip(results, ((100, 150), (32, 33)), (0.64, 2), strict=True):
        y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
        inner = (slice(6, -6), slice(6, -6))
        torch.testing.assert_close(result["semantic"][0][inner], ratio * y[inner], rtol=0, atol=1e-3)
        torch.testing.assert_close(result["semantic"][1][inner], ratio * x[inner], rtol=0, atol=1e-3)


@pytest.mark.parametrize("objects", [2, 0])
@pytest.mark.parametrize("autocast", [False, True])
def test_training_with_and_without_objects(objects: int, autocast: bool) -> None:
    net = panoptic_fpn()
    images, targets = [torch.rand(3, 50, 70), torch.rand(3, 64, 80)], [target(50, 70, objects), target(64, 80, 0)]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = net(images, targets)
    assert len(losses) == 6
    assert losses["loss_semantic"] > 0
    assert all(loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name.startswith("semantic_head."):
            assert parameter.grad.abs().max() > 0, name


def test_the_upsampler_changes_nothing_else_at_the_start() -> None:
    plain, guided = panoptic_fpn("bilinear").state_dict(), panoptic_fpn("resfu").state_dict()
    assert set(guided) - set(plain) == {name for name in guided if name.startswith("backbone.fpn.slots.")}
    assert all(torch.equal(guided[name], value) for name, value in plain.items())


def test_weights_of_mask_rcnn_and_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    torch.manual_seed(5)
    donor = MaskRCNN("nearest", num_classes=THINGS, **DETECTOR).state_dict()
    torch.save(donor, path)
    with pytest.warns(UserWarning, match=r"no weights for the upsamplers and the semantic head \(\d+ tensors"):
        net = panoptic_fpn("resfu", pretrained=path)
    assert torch.equal(net.backbone.fpn.inner_blocks[0][0].weight, donor["backbone.fpn.inner_blocks.0.0.weight"])
    assert not net.backbone.body.conv1.weight.requires_grad
    torch.save({name: value + 0.01 for name, value in net.state_dict().items()}, path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = panoptic_fpn("resfu", pretrained=path)
    assert torch.equal(again.semantic_head.classifier.bias, net.semantic_head.classifier.bias + 0.01)


@pytest.mark.parametrize(
    ("semantic", "message"),
    [
        (None, r"int64 \[40, 50\] like its image, got none"),
        (torch.zeros(40, 50, dtype=torch.uint8), r"got torch\.uint8 \[40, 50\]"),
        (torch.zeros(40, 51, dtype=torch.int64), r"\[40, 51\]"),
        (torch.full((40, 50), STUFF + 1), r"must lie in 0\.\.3 .*got \[4\]"),
    ],
)
def test_bad_targets(semantic: Tensor | None, message: str) -> None:
    wanted = target(40, 50, 1)
    if semantic is None:
        del wanted["semantic"]
    else:
        wanted["semantic"] = semantic
    with pytest.raises(ValueError, match=message):
        panoptic_fpn("nearest")([torch.rand(3, 40, 50)], [wanted])


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="stuff_classes must be at least 1, got 0"):
        panoptic_fpn(stuff_classes=0)
    with pytest.raises(ValueError, match="has no setting stuff"):
        panoptic_fpn(stuff=3)
