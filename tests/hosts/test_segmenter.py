"""Segmenter: published sizes and costs, the encoder against timm, the wiring of the slot, weights."""

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import resfu
from resfu.evaluation.cost import multiply_accumulates
from resfu.hosts import timm_weights
from resfu.hosts.segmenter import Segmenter
from resfu.hosts.vit import PlainViT

# With the position embedding for 512 and 640 pixels.
BASES = {"s": 22_041_366, "l": 304_893_078}
NAMES = {"s": "vit_small_patch16_384", "l": "vit_large_patch16_384"}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def addition(variant: str, upsampler: str, **options: object) -> int:
    with torch.device("meta"):
        net = resfu.create_host(f"segmenter-vit-{variant}", upsampler=upsampler, upsampler_options=options)
    return count(net) - BASES[variant]


# Each equals its row of Table II of arXiv 2407.02283 after rounding. The bilinear row of ViT-L is printed 304.17, which
# no other row of its column agrees with.
@pytest.mark.parametrize(
    ("upsampler", "options", "small", "large"),
    [
        ("nearest", {}, 0, 0),
        ("bilinear", {}, 0, 0),
        ("bicubic", {}, 0, 0),
        ("deconv", {}, 2_359_680, 16_778_240),
        ("pixelshuffle", {}, 2_365_440, 16_793_600),
        ("stack-jbu", {}, 160_306, 1_062_066),
        ("carafe", {}, 164_680, 246_600),
        ("fade", {}, 102_610, 184_530),
        ("sapa", {}, 48_800, 92_320),
        ("dysample", {"style": "lp"}, 49_216, 131_136),
        ("resfu", {}, 64_690, 86_450),
    ],
)
def test_upsamplers_add_the_published_parameters(upsampler: str, options: dict, small: int, large: int) -> None:
    assert addition("s", upsampler, **options) == small
    assert addition("l", upsampler, **options) == large


# Tables V, VI and VIII. One entry, 22.0779 million for the detail score alone, is printed 22.07.
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"alignment": "semantic", "guided_query": False}, 49_641),
        ({"alignment": "semantic"}, 49_641),
        ({"alignment": "detail", "smoothed_key": False}, 36_553),
        ({"alignment": "detail"}, 36_553),
        ({"similarity": "inner_product"}, 34_592),
        ({"similarity": "concat"}, 83_122),
        ({"neighbours": "coarse"}, 64_690),
        ({"kernel_size": 5}, 101_586),
        ({"kernel_size": 7}, 156_930),
        ({"projection_dim": 16}, 48_722),
        ({"projection_dim": 64}, 96_626),
        ({"groups": 1}, 144_562),
        ({"groups": 2}, 91_314),
        ({"groups": 8}, 51_378),
    ],
)
def test_ablations_have_the_published_parameters(options: dict, expected: int) -> None:
    assert addition("s", "resfu", **options) == expected


# Billions, Table IX. The convention leaves the last resizing of the logits out.
@pytest.mark.parametrize(
    ("upsampler", "billions"),
    [("bilinear", 32.77), ("deconv", 35.16), ("pixelshuffle", 35.16), ("sapa", 33.28), ("dysample", 32.90)],
)
def test_published_multiply_accumulates(upsampler: str, billions: float) -> None:
    with torch.device("meta"):
        net = resfu.create_host("segmenter-vit-s", upsampler=upsampler).eval()
        images = torch.empty(1, 3, 512, 512)
    counted = multiply_accumulates(lambda: net.head(net.encoder(images), images)) / 1e9
    assert round(counted, 2) == billions
    if upsampler == "bilinear":
        assert round(counted, 3) == 32.767


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80)])
def test_the_encoder_equals_that_of_timm(height: int, width: int) -> None:
    torch.manual_seed(0)
    other = timm.create_model(NAMES["s"], img_size=64, depth=2, dynamic_img_size=True).eval()
    encoder = PlainViT("s", image_size=64, depth=2).eval()
    encoder.vit.load_state_dict({key: other.state_dict()[key] for key in encoder.vit.state_dict()})
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        tokens = other.forward_features(images)
        (features,) = encoder(images)
    assert features.shape == (2, 384, height // 16, width // 16)
    assert tokens.shape == (2, 1 + height * width // 256, 384)
    for y in range(height // 16):
        for x in range(width // 16):
            torch.testing.assert_close(features[:, :, y, x], tokens[:, 1 + y * (width // 16) + x], rtol=1e-5, atol=1e-5)


def published_positions(embedding: Tensor, side: int, h: int, w: int) -> Tensor:
    """As mmsegmentation and Segmenter's authors resample it: bicubic, a = -0.75, no antialiasing."""
    grid = embedding[:, 1:].mT.unflatten(2, (side, side))
    grid = F.interpolate(grid, size=(h, w), mode="bicubic", align_corners=False)
    return torch.cat([embedding[:, :1], grid.flatten(2).mT], 1)


def test_positions_are_resampled_as_published_on_request(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoders = [PlainViT("s", image_size=64, depth=1, antialias_positions=flag).eval() for flag in (True, False)]
    embedding = torch.randn(1, 17, 384)
    for encoder in encoders:
        encoder.load_state_dict(encoders[0].state_dict())
        encoder.vit.pos_embed.data.copy_(embedding)
    images = torch.randn(1, 3, 48, 112)
    torch.save(encoders[0].vit.state_dict(), tmp_path / "weights.pth")
    with torch.no_grad():
        at_its_size = [encoder(images[..., :48])[0] for encoder in encoders]
        antialiased, published = (encoder(images)[0] for encoder in encoders)
        # A network made for that size, with the embedding resampled by hand, has nothing to resample.
        fitting = PlainViT("s", image_size=112, depth=1).eval()
        fitting.load_state_dict(encoders[0].state_dict() | {"vit.pos_embed": published_positions(embedding, 4, 7, 7)})
        square = torch.randn(1, 3, 112, 112)
        torch.testing.assert_close(encoders[1](square)[0], fitting(square)[0])
    assert not torch.allclose(*at_its_size, atol=1e-3)  # 48 x 48 is not the size either
    assert (antialiased - published).norm() > 0.01 * published.norm()
    loaded = PlainViT("s", image_size=96, depth=1, antialias_positions=False)
    loaded.load(tmp_path / "weights.pth")
    torch.testing.assert_close(loaded.vit.pos_embed.data, published_positions(embedding, 4, 6, 6))
    with pytest.raises(ValueError, match="antialias_positions must be true or false"):
        Segmenter("s", "bilinear", 4, depth=1, antialias_positions="no")


def test_images_are_padded_with_zeros_on_request() -> None:
    torch.manual_seed(0)
    host = Segmenter("s", "bilinear", 4, depth=1, image_size=32, continuation="zeros").eval()
    images = torch.randn(1, 3, 41, 75)
    with torch.no_grad():
        expected = host(F.pad(images, (0, 5, 0, 7)))[..., :41, :75]
        torch.testing.assert_close(host(images), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match="continuation must be one of border, zeros, got 'mirror'"):
        Segmenter("s", "bilinear", 4, depth=1, image_size=32, continuation="mirror")


def test_the_encoder_has_the_published_form() -> None:
    for variant, (depth, heads, tokens) in {"s": (12, 6, 1025), "l": (24, 16, 1601)}.items():
        with torch.device("meta"):
            vit = PlainViT(variant).vit
        assert (len(vit.blocks), vit.blocks[0].attn.num_heads) == (depth, heads)
        assert vit.pos_embed is not None
        assert vit.pos_embed.shape[1] == tokens
        assert isinstance(vit.norm, nn.LayerNorm)
        assert {m.eps for m in vit.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}
        rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in vit.blocks]
        assert rates == pytest.approx([0.1 * n / (depth - 1) for n in range(depth)])
        assert {m.p for m in vit.modules() if isinstance(m, nn.Dropout)} == {0.0}


def test_a_block_of_convolutions_guides_and_only_where_features_guide() -> None:
    torch.manual_seed(0)
    for name, method in resfu.UPSAMPLERS.items():
        host = Segmenter("s", name, 4, depth=1, image_size=32).eval()
        has_block = any(key.startswith("head.guidance.") for key in host.state_dict())
        assert has_block == (method.guided and not method.image_guided)
    host = Segmenter("s", "resfu", 4, depth=1, image_size=32).eval()
    assert count(host.head.guidance) == 20_384
    seen: list[tuple] = []
    host.head.slot.upsampler.register_forward_pre_hook(lambda _, a, k: seen.append((*a, k["size"])), with_kwargs=True)
    images = torch.randn(1, 3, 40, 57)
    with torch.no_grad():
        host(images)
        continued = F.pad(images, (0, 7, 0, 8), mode="replicate")
        ((features, guidance, size),) = seen
        torch.testing.assert_close(features, host.encoder(continued)[0])
        torch.testing.assert_close(guidance, host.head.guidance(continued))
    assert (features.shape[1:], guidance.shape[1:], size) == ((384, 3, 4), (32, 12, 16), (12, 16))


def test_images_are_padded_and_the_logits_cropped() -> None:
    torch.manual_seed(0)
    host = Segmenter("s", "resfu", 4, depth=1, image_size=32).eval()
    images = torch.randn(1, 3, 41, 75)
    with torch.no_grad():
        low, high = host.upsampled_features(images)["features"]
        logits = F.interpolate(host.head.classifier(high), size=(48, 80), mode="bilinear", align_corners=False)
        torch.testing.assert_close(host(images), logits[..., :41, :75])
    assert (low.shape, high.shape) == ((1, 384, 3, 5), (1, 384, 12, 20))


@pytest.mark.parametrize("upsampler", list(resfu.UPSAMPLERS))
def test_the_smallest_images(upsampler: str) -> None:
    host = Segmenter("s", upsampler, 4, depth=1, image_size=32).eval()
    with torch.no_grad():
        assert host(torch.randn(1, 3, 1, 19)).isfinite().all()


def test_normalisation_and_initialisation() -> None:
    host = Segmenter("s", "nearest", depth=1)
    assert host.mean == host.std == pytest.approx((127.5 / 255,) * 3)
    assert host.head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert host.head.classifier.bias.abs().max() == 0


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="unknown ViT variant 'b'; choose one of s, l"):
        Segmenter("b")
    for size in (0, 500):
        with pytest.raises(ValueError, match=f"image_size must be a multiple of 16, got {size}"):
            Segmenter("s", image_size=size)


@pytest.fixture(scope="module")
def donor() -> dict[str, Tensor]:
    """A file as timm publishes it: the whole classifying network, for images of 48 pixels."""
    torch.manual_seed(3)
    return timm.create_model(NAMES["s"], img_size=48, depth=1).state_dict()


@pytest.mark.parametrize("classifier", [True, False])
def test_encoder_weights_from_a_file(tmp_path: Path, donor: dict[str, Tensor], classifier: bool) -> None:
    weights = {key: value for key, value in donor.items() if classifier or not key.startswith("head.")}
    torch.save(weights, tmp_path / "pytorch_model.bin")
    host = Segmenter("s", "bilinear", 4, pretrained=tmp_path, image_size=48, depth=1)
    loaded = host.encoder.vit.state_dict()
    assert set(loaded) == {key for key in donor if not key.startswith("head.")}
    for key, value in loaded.items():
        torch.testing.assert_close(value, donor[key], rtol=0, atol=0)


def test_a_position_embedding_of_another_grid_is_resampled(tmp_path: Path, donor: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save(donor, path)
    source = {"file": str(path), "custom_load": False}
    other = timm.create_model(NAMES["s"], pretrained=True, pretrained_cfg_overlay=source, img_size=80, depth=1)
    encoder = PlainViT("s", image_size=80, depth=1)
    encoder.load(path)
    embedding = encoder.vit.state_dict()["pos_embed"]
    assert embedding.shape == (1, 26, 384)
    assert embedding[:, 1:].std() > 0.01
    torch.testing.assert_close(embedding, other.state_dict()["pos_embed"], rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 8, 384), (1, 10, 192), (10, 384), (1, 0, 384)])
def test_weights_that_do_not_fit_are_named(tmp_path: Path, donor: dict[str, Tensor], shape: tuple[int, ...]) -> None:
    weights = {key: value for key, value in donor.items() if key != "norm.bias"}
    torch.save(weights | {"extra": torch.zeros(1), "pos_embed": torch.zeros(shape)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"missing: norm\.bias; unexpected: extra; misshapen: pos_embed"):
        PlainViT("s", image_size=48, depth=1).load(tmp_path / "weights.pth")


def test_encoder_weights_by_name(donor: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(name: str) -> dict[str, Tensor]:
        asked.append(name)
        return dict(donor)

    monkeypatch.setattr(timm_weights.timm.models, "load_state_dict_from_hf", fetch)
    encoder = Segmenter("s", "bilinear", 4, pretrained=True, image_size=48, depth=1).encoder
    torch.testing.assert_close(encoder.vit.state_dict()["pos_embed"], donor["pos_embed"], rtol=0, atol=0)
    with torch.device("meta"), pytest.raises(ValueError, match=r"vit_large_patch16_384\.augreg\S+ do not fit"):
        Segmenter("l", pretrained=True)
    assert asked == [f"timm/{NAMES[variant]}.augreg_in21k_ft_in1k" for variant in ("s", "l")]
