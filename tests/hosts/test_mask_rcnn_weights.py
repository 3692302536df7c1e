"""Mask R-CNN from weights that others made."""

import copy
import urllib.error
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from tests.support.tiny_networks import mask_rcnn


def test_state_dict_round_trip() -> None:
    first, second = mask_rcnn().eval(), copy.deepcopy(mask_rcnn()).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.1)
        second.load_state_dict(first.state_dict())
        for name, value in first(images)[0].items():
            assert torch.equal(value, second(images)[0][name])


def test_resnet_weights_from_a_path_freeze_the_start(tmp_path: Path) -> None:
    torch.manual_seed(3)
    resnet = ResNet(Bottleneck, [1, 1, 1, 1])
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    net = mask_rcnn(pretrained=tmp_path / "resnet.pth")
    for name, value in net.backbone.body.state_dict().items():
        assert torch.equal(value, resnet.state_dict()[name]), name
    fixed = {name.split(".")[1] for name, p in net.backbone.named_parameters() if not p.requires_grad}
    assert fixed == {"conv1", "layer1"}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    trained = mask_rcnn(pretrained=tmp_path / "resnet.pth", frozen=False)
    assert all(p.requires_grad for p in trained.parameters())
    assert torch.equal(trained.backbone.body.bn1.weight, resnet.bn1.weight)


def old_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the weights that torchvision publishes are called, which are older than its present names."""
    renamed = {}
    for name, value in weights.items():
        for new, old in (("blocks.0.0.", "blocks.0."), ("mask_head.0.0.", "mask_head.mask_fcn1.")):
            name = name.replace(new, old)
        renamed[name] = value
    assert "roi_heads.mask_head.mask_fcn1.weight" in renamed
    return renamed


def test_whole_networks_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    donor = mask_rcnn("nearest").state_dict()
    torch.save(old_names({name: value + 0.01 for name, value in donor.items()}), path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask_rcnn("bilinear", pretrained=path)
    with pytest.warns(UserWarning, match=r"no weights for the upsamplers \(\d+ tensors, backbone\.fpn\.slots\.c4\."):
        net = mask_rcnn("resfu", pretrained=path)
    for name, value in net.state_dict().items():
        if not name.startswith("backbone.fpn.slots."):
            assert torch.equal(value, donor[name] + 0.01), name
    with pytest.raises(ValueError, match=r"misshapen: roi_heads\.box_predictor\.cls_score\.weight"):
        mask_rcnn("bilinear", pretrained=path, num_classes=7)
    torch.save(
        {name: value for name, value in donor.items() if "rpn.head.cls" not in name} | {"x": torch.ones(1)}, path
    )
    with pytest.raises(ValueError, match=r"missing: rpn\.head\.cls_logits\.weight, .*; unexpected: x"):
        mask_rcnn("bilinear", pretrained=path)
    torch.save(mask_rcnn("resfu").state_dict(), path)
    with pytest.raises(ValueError, match=r"unexpected: backbone\.fpn\.slots\.c4"):
        mask_rcnn("bilinear", pretrained=path)


def test_by_name_without_a_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(ValueError, match=r"ResNet50_Weights\.IMAGENET1K_V1 .* could not be fetched .*give the path"):
        mask_rcnn(pretrained=True)
