"""TransUNet from weights that others made."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import resfu
from resfu.hosts import timm_weights
from resfu.hosts.hybrid_vit import HybridViT
from tests.support.tiny_networks import count, randomised, transunet

BASE = 105_277_081
PUBLISHED = "vit_base_r50_s16_224"


def test_both_forms_take_the_same_weights_and_differ() -> None:
    hosts = [transunet("bilinear", encoder_form=form) for form in ("timm", "transunet")]
    hosts[1].load_state_dict(randomised(hosts[0]).state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for first, second in zip(*(host.encoder(images)[:3] for host in hosts), strict=True):
            assert (first - second).norm() > 0.05 * first.norm()
    with torch.device("meta"):
        options = {"encoder_form": "transunet"}
        assert count(resfu.create_host("transunet-r50-vit-b16", "bilinear", 9, host_options=options)) == BASE
    with pytest.raises(ValueError, match="form must be one of timm, transunet, got 'original'"):
        transunet("bilinear", encoder_form="original")


@pytest.fixture(scope="module")
def donor() -> dict[str, Tensor]:
    """A file as timm publishes it: with a class token, here for images of 64 pixels and with a classifier."""
    torch.manual_seed(3)
    token = {"cls_token": torch.zeros(1, 1, 64), "head.weight": torch.zeros(7, 64), "head.bias": torch.zeros(7)}
    weights = HybridViT((1, 1, 1), 64, 1, image_size=64).vit.state_dict() | token
    # With the layer that stood before the classifier in old files.
    return weights | {"pos_embed": torch.randn(1, 17, 64), "pre_logits.fc.weight": torch.zeros(64, 64)}


@pytest.mark.parametrize("size", [64, 48])
def test_encoder_weights_from_a_file(tmp_path: Path, donor: dict[str, Tensor], size: int) -> None:
    torch.save(donor, tmp_path / "pytorch_model.bin")
    loaded = transunet("bilinear", image_size=size, pretrained=tmp_path).encoder.vit.state_dict()
    grid = donor["pos_embed"][:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    n = size // 16
    grid = F.interpolate(grid, size=(n, n), mode="bicubic", align_corners=False, antialias=True)
    torch.testing.assert_close(loaded.pop("pos_embed"), grid.flatten(2).transpose(1, 2))
    assert loaded
    for key, value in loaded.items():
        torch.testing.assert_close(value, donor[key], rtol=0, atol=0)


def test_weights_without_a_class_token(donor: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(donor | {"pos_embed": donor["pos_embed"][:, 1:]}, tmp_path / "weights.pth")
    embedding = transunet("bilinear", image_size=64, pretrained=tmp_path / "weights.pth").encoder.vit.pos_embed
    torch.testing.assert_close(embedding.data, donor["pos_embed"][:, 1:], rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 18, 64), (1, 17, 32), (17, 64), (1, 0, 64)])
def test_weights_that_do_not_fit_are_named(tmp_path: Path, donor: dict[str, Tensor], shape: tuple[int, ...]) -> None:
    weights = {key: value for key, value in donor.items() if key != "norm.bias"}
    torch.save(weights | {"extra": torch.zeros(1), "pos_embed": torch.zeros(shape)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"missing: norm\.bias; unexpected: extra; misshapen: pos_embed"):
        transunet("bilinear", image_size=64, pretrained=tmp_path / "weights.pth")


def test_encoder_weights_by_name(donor: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(name: str) -> dict[str, Tensor]:
        asked.append(name)
        if len(asked) > 1:
            raise OSError("no network")
        return dict(donor)

    monkeypatch.setattr(timm_weights.timm.models, "load_state_dict_from_hf", fetch)
    encoder = transunet("bilinear", pretrained=True, image_size=64).encoder
    torch.testing.assert_close(encoder.vit.pos_embed.data, donor["pos_embed"][:, 1:], rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"vit_base_r50_s16_224\.orig_in21k .* could not be fetched .*give the path"):
        transunet("bilinear", pretrained=True)
    assert asked == [f"timm/{PUBLISHED}.orig_in21k"] * 2
