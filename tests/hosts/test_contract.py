"""What every segmentation host keeps, whatever the upsampler."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import resfu
from resfu.hosts.base import SegmentationHost

CLASSES = 5
SMALL = ("segformer-mit-b0", "efficientnet-lite0")


def build(name: str, upsampler: str = "resfu", **options: object) -> SegmentationHost:
    torch.manual_seed(0)
    return resfu.create_host(name, upsampler=upsampler, num_classes=CLASSES, **options)


def photo(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("upsampler", list(resfu.UPSAMPLERS))
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_logits_have_the_size_of_the_image(name: str, upsampler: str, size: tuple[int, int]) -> None:
    host = build(name, upsampler).eval()
    with torch.no_grad():
        logits = host(photo(2, 3, *size))
    assert logits.shape == (2, CLASSES, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (33, 16)])
def test_images_smaller_than_the_deepest_stride(name: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert build(name).eval()(photo(1, 3, *size)).shape == (1, CLASSES, *size)


def test_an_image_does_not_depend_on_its_batch_mates(name: str) -> None:
    host = build(name).eval()
    images = photo(3, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(host(images)[1:2], host(images[1:2]), rtol=1e-4, atol=1e-5)


def test_an_empty_batch_gives_empty_logits(name: str) -> None:
    host = build(name)
    assert host(torch.empty(0, 3, 40, 50)).shape == (0, CLASSES, 40, 50)
    with pytest.raises(ValueError, match="at least one image"):
        host.upsampled_features(torch.empty(0, 3, 40, 50))


@pytest.mark.parametrize("upsampler", list(resfu.UPSAMPLERS))
def test_gradients_reach_every_parameter(name: str, upsampler: str) -> None:
    host = build(name, upsampler)
    host(photo(2, 3, 64, 64)).square().sum().backward()
    for key, parameter in host.named_parameters():
        assert key.startswith(("encoder.", "head."))
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if ".upsampler." not in key and key.startswith("head."):
            assert parameter.grad.abs().max() > 0, key


def test_upsampled_features_are_what_goes_in_and_out_of_the_slots(name: str) -> None:
    host = build(name, "bilinear").eval()
    with torch.no_grad():
        pairs = host.upsampled_features(photo(2, 3, 64, 96))
    assert list(pairs) == (["c2", "c3", "c4"] if name.startswith("segformer") else ["features"])
    for low, high in pairs.values():
        assert high.shape[-2:] == (64 // host.stride, 96 // host.stride)
        expected = F.interpolate(low, size=high.shape[-2:], mode="bilinear", align_corners=False)
        torch.testing.assert_close(high, expected)


def test_the_upsampler_changes_nothing_else_at_the_start(name: str) -> None:
    plain = build(name, "bilinear").state_dict()
    guided = build(name, "resfu").state_dict()
    assert set(plain) <= set(guided)
    for key, value in plain.items():
        torch.testing.assert_close(guided[key], value, rtol=0, atol=0)


def test_state_dict_round_trip(name: str) -> None:
    first, second = build(name).eval(), copy.deepcopy(build(name)).eval()
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.1)
        images = photo(1, 3, 48, 48)
        assert not torch.allclose(first(images), second(images))
        second.load_state_dict(first.state_dict())
        torch.testing.assert_close(first(images), second(images), rtol=0, atol=0)


def test_autocast(name: str) -> None:
    host = build(name).eval()
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
        (torch.zeros(3, 8, 8), "4|dimensions"),
        (torch.zeros(1, 4, 8, 8), "3 channels"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "divide by 255"),
        (torch.zeros(1, 3, 0, 8), "at least one pixel"),
    ],
)
def test_bad_images(name: str, images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, "bilinear")(images)


def test_bad_arguments(name: str) -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        resfu.create_host(name, num_classes=0)
    with pytest.raises(ValueError, match=r"unknown upsampler 'bicubik'; choose one of .*bilinear"):
        resfu.create_host(name, upsampler="bicubik")
    with pytest.raises(ValueError, match="bilinear has no option kernel"):
        resfu.create_host(name, upsampler="bilinear", upsampler_options={"kernel": 3})
    with pytest.raises(ValueError, match="must not hold channels"):
        resfu.create_host(name, upsampler_options={"channels": 3})


def test_an_unknown_host_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown host 'segformer'; choose one of .*segformer-mit-b5"):
        resfu.create_host("segformer")
