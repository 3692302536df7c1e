"""What every segmentation host keeps, whatever the upsampler."""

import copy
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import resfu
from resfu.hosts.base import SegmentationHost
from resfu.hosts.maskformer import MaskFormer
from resfu.hosts.pspnet import PSPNet
from resfu.hosts.segmenter import Segmenter
from resfu.hosts.swin import SwinVariant
from resfu.hosts.transunet import TransUNet

CLASSES = 5
# The large ones with fewer layers.
SMALL: dict[str, Callable[..., SegmentationHost]] = {
    "segformer-mit-b0": resfu.HOSTS["segformer-mit-b0"],
    "efficientnet-lite0": resfu.HOSTS["efficientnet-lite0"],
    "pspnet": partial(PSPNet, depth=14, channels=64),
    "segmenter": partial(Segmenter, "s", image_size=64, depth=1),
    "maskformer": partial(
        MaskFormer,
        SwinVariant(8, (1, 1, 1, 1), (1, 1, 2, 2), window_size=4),
        channels=32,
        num_queries=6,
        decoder_layers=2,
    ),
    "transunet": partial(TransUNet, layers=(1, 1, 1), width=64, depth=1, image_size=64, channels=(64, 32, 32, 16)),
}

# Upsamplers with wide branches of their own, narrower.
NARROW = {"naf": {"dim": 64}, "anyup": {"dim": 32}}

# Slots and the strides to which they go, where there is more than the one before the classifier.
SLOTS = {
    "segformer-mit-b0": {"c2": 4, "c3": 4, "c4": 4},
    "maskformer": {"c4": 16, "c3": 8, "c2": 4},
    "transunet": {"c4": 8, "c3": 4, "c2": 2},
}
# MaskFormer's queries start from zero and this layer's biases, too: at the first step it has nothing to pass on.
AT_REST = "transformer.decoder.layers.0.self_attn"


# Tests come host by host, so this builds every network once and keeps those of one host.
@lru_cache(maxsize=len(resfu.UPSAMPLERS))
def built(name: str, upsampler: str) -> tuple[SegmentationHost, Tensor]:
    """A network, and the state in which it left the generator."""
    torch.manual_seed(0)
    options = NARROW.get(upsampler)
    return SMALL[name](upsampler=upsampler, num_classes=CLASSES, upsampler_options=options), torch.get_rng_state()


def shared(name: str, upsampler: str = "resfu") -> SegmentationHost:
    """In evaluation mode, for tests that change nothing."""
    return built(name, upsampler)[0].eval()


def build(name: str, upsampler: str = "resfu") -> SegmentationHost:
    """One for this test alone, in training mode."""
    return copy.deepcopy(built(name, upsampler)[0]).train()


def photo(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def remembering(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """The same function, which gives its last result again where its input is the same."""
    last: list[Any] = []

    def call(x: Tensor) -> Any:
        if not (last and torch.equal(last[0], x)):
            last[:] = x, function(x)
        return last[1]

    return call


@pytest.fixture(params=SMALL, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("upsampler", list(resfu.UPSAMPLERS))
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_logits_have_the_size_of_the_image(name: str, upsampler: str, size: tuple[int, int]) -> None:
    host = shared(name, upsampler)
    with torch.no_grad():
        logits = host(photo(2, 3, *size))
    assert logits.shape == (2, CLASSES, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("upsampler", list(resfu.UPSAMPLERS))
def test_images_smaller_than_the_deepest_stride(name: str, upsampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = shared(name, upsampler)
    for size in [(1, 1), (7, 40), (33, 16), (32, 32)]:
        image = photo(1, 3, *size)
        with torch.no_grad(), monkeypatch.context() as patch:
            patch.setattr(host.encoder, "forward", remembering(host.encoder.forward))
            assert host(image).shape == (1, CLASSES, *size)
            assert all(high.isfinite().all() for _, high in host.upsampled_features(image).values())


def test_an_image_does_not_depend_on_its_batch_mates(name: str) -> None:
    host = shared(name)
    images = photo(3, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(host(images)[1:2], host(images[1:2]), rtol=1e-4, atol=1e-5)


NO_VARIANCE = r"no variance to train with in \[1, \d+, 1, 1\], one image and one pixel: put two images or more"


@pytest.mark.parametrize("upsampler", ["resfu", "indexnet"])
def test_training_on_one_image(name: str, upsampler: str) -> None:
    """Where batch normalisation meets a single value, a sentence says so; evaluation and two images are fine."""
    host = build(name, upsampler).train()
    label = torch.zeros(1, 16, 16, dtype=torch.long)
    if name in ("pspnet", "segformer-mit-b0", "efficientnet-lite0"):
        with pytest.raises(ValueError, match=NO_VARIANCE):
            host.losses(photo(1, 3, 16, 16), label, F.cross_entropy)
    else:
        assert all(loss.isfinite() for loss in host.losses(photo(1, 3, 16, 16), label, F.cross_entropy).values())
    assert all(map(torch.isfinite, host.losses(photo(2, 3, 16, 16), label.repeat(2, 1, 1), F.cross_entropy).values()))
    with torch.no_grad():
        assert host.eval()(photo(1, 3, 16, 16)).isfinite().all()


def test_pspnet_trains_on_no_single_image_of_any_size() -> None:
    with pytest.raises(ValueError, match=NO_VARIANCE):
        build("pspnet").train()(photo(1, 3, 96, 96))


def test_an_empty_batch_gives_empty_logits(name: str) -> None:
    host = shared(name)
    assert host(torch.empty(0, 3, 40, 50)).shape == (0, CLASSES, 40, 50)
    with pytest.raises(ValueError, match="at least one image"):
        host.upsampled_features(torch.empty(0, 3, 40, 50))


@pytest.mark.parametrize("upsampler", list(resfu.UPSAMPLERS))
def test_gradients_reach_every_parameter(name: str, upsampler: str) -> None:
    host = build(name, upsampler)
    label = torch.randint(CLASSES, (2, 64, 64), generator=torch.Generator().manual_seed(2))
    torch.stack(list(host.losses(photo(2, 3, 64, 64), label, F.cross_entropy).values())).sum().backward()
    for key, parameter in host.named_parameters():
        assert key.startswith(("encoder.", "head."))
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if ".upsampler." not in key and key.startswith("head.") and AT_REST not in key:
            assert parameter.grad.abs().max() > 0, key


def test_upsampled_features_are_what_goes_in_and_out_of_the_slots(name: str) -> None:
    host = shared(name, "bilinear")
    with torch.no_grad():
        pairs = host.upsampled_features(photo(2, 3, 64, 96))
    slots = SLOTS.get(name, {"features": host.stride})
    assert list(pairs) == list(slots)
    for (low, high), stride in zip(pairs.values(), slots.values(), strict=True):
        assert high.shape[-2:] == (64 // stride, 96 // stride)
        # TransUNet's own bilinear is the other one.
        expected = F.interpolate(low, size=high.shape[-2:], mode="bilinear", align_corners=name == "transunet")
        torch.testing.assert_close(high, expected)


def test_the_upsampler_changes_nothing_else_at_the_start(name: str) -> None:
    plain = shared(name, "bilinear").state_dict()
    guided = shared(name, "resfu").state_dict()
    assert set(plain) <= set(guided)
    for key, value in plain.items():
        torch.testing.assert_close(guided[key], value, rtol=0, atol=0)
    # Nor what is drawn after it.
    assert torch.equal(built(name, "bilinear")[1], built(name, "resfu")[1])


def test_state_dict_round_trip(name: str) -> None:
    first, second = shared(name), build(name).eval()
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.1)
        images = photo(1, 3, 48, 48)
        assert not torch.allclose(first(images), second(images))
        second.load_state_dict(first.state_dict())
        torch.testing.assert_close(first(images), second(images), rtol=0, atol=0)


def test_autocast(name: str) -> None:
    host = shared(name)
    images = photo(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = host(images)
    assert low.dtype == torch.bfloat16
    with torch.no_grad():
        high = host(images)
    assert (low.float() - high).abs().max() < 0.1 * high.abs().max() + 0.05


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), "got the shape"),
        (torch.zeros(1, 4, 8, 8), "channels of images must be 3, got 4"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "divide by 255"),
        (torch.zeros(1, 3, 8, 8).bfloat16(), r"images are torch\.bfloat16 and the weights of \w+ are torch\.float32"),
        (torch.zeros(1, 3, 0, 8), "at least one pixel"),
    ],
)
def test_bad_images(name: str, images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shared(name, "bilinear")(images)


def test_bad_arguments(name: str) -> None:
    for number in (0, -1, "a", 2.5, True):
        with pytest.raises(ValueError, match=f"num_classes must be an int from 1, got {number!r}"):
            SMALL[name](num_classes=number)
    with pytest.raises(ValueError, match=r"unknown upsampler 'bicubik'; choose one of .*bilinear"):
        SMALL[name](upsampler="bicubik")
    with pytest.raises(ValueError, match=r"iterative must be true or false \(a bool\), got 'False'"):
        SMALL[name](upsampler_options={"iterative": "False"})
    with pytest.raises(ValueError, match="bilinear has no option kernel"):
        SMALL[name](upsampler="bilinear", upsampler_options={"kernel": 3})
    with pytest.raises(ValueError, match="must not hold channels"):
        SMALL[name](upsampler_options={"channels": 3})


def test_host_options_are_the_arguments_of_the_class() -> None:
    host = resfu.create_host(
        "segmenter-vit-s", "bilinear", 4, host_options={"depth": 1, "image_size": 64, "antialias_positions": False}
    )
    assert len(host.encoder.vit.blocks) == 1
    assert not host.encoder.antialias_positions
    with pytest.raises(ValueError, match=r"Segmenter has no option dept; its options are variant, .*, continuation\."):
        resfu.create_host("segmenter-vit-s", host_options={"dept": 1})
    for options in ({"variant": "l"}, {"num_classes": 3, "depth": 1}):
        with pytest.raises(ValueError, match=rf"host_options must not hold {next(iter(options))}: the name and the"):
            resfu.create_host("segmenter-vit-s", host_options=options)


def test_an_unknown_host_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown host 'segformer'; choose one of .*segformer-mit-b5"):
        resfu.create_host("segformer")
