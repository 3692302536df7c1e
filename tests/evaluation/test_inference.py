"""Windows against the whole image, and against sums worked by hand."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.evaluation.inference import predict, resize_logits, window_starts


def mmseg_starts(length: int, crop: int, stride: int) -> list[int]:
    """The rule as mmsegmentation writes it."""
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, length) - crop, 0) for i in range(count)]


@pytest.mark.parametrize("length", [1, 7, 8, 9, 24, 25, 31])
@pytest.mark.parametrize(("crop", "stride"), [(8, 8), (8, 5), (8, 1), (1, 1), (24, 7)])
def test_window_starts_follow_the_published_rule(length: int, crop: int, stride: int) -> None:
    assert window_starts(length, crop, stride) == mmseg_starts(length, crop, stride)


@pytest.mark.parametrize("crop_size", [8, (5, 9), 100, (30, 4)])
@pytest.mark.parametrize("stride", [(3, 4), 4, (5, 2)])
def test_pointwise_model_gives_the_same_in_windows(crop_size: Any, stride: Any) -> None:
    images = torch.randn(2, 3, 17, 23, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(5, 3, 1, 1, generator=torch.Generator().manual_seed(1))
    model = lambda x: F.conv2d(x, weight)  # noqa: E731
    slid = predict(model, images, "slide", crop_size, stride)
    torch.testing.assert_close(slid, predict(model, images))


def test_overlaps_are_averaged_by_hand() -> None:
    calls: list[tuple[float, ...]] = []

    def model(window: Tensor) -> Tensor:
        """Says everywhere how many windows came before."""
        calls.append(tuple(window.flatten().tolist()))
        return torch.full((1, 1, *window.shape[-2:]), float(len(calls) - 1))

    images = torch.arange(7.0).view(1, 1, 1, 7)
    logits = predict(model, images, "slide", crop_size=(1, 4), stride=(1, 2))
    assert calls == [(0, 1, 2, 3), (2, 3, 4, 5), (3, 4, 5, 6)]
    assert logits.flatten().tolist() == [0, 0, 0.5, 1, 1.5, 1.5, 2]


def test_crop_larger_than_the_image_is_one_window() -> None:
    sizes = []

    def model(window: Tensor) -> Tensor:
        sizes.append(tuple(window.shape))
        return window

    images = torch.randn(2, 3, 6, 10)
    assert torch.equal(predict(model, images, "slide", crop_size=(64, 10), stride=4), images)
    assert sizes == [(2, 3, 6, 10)]


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = predict(lambda x: x.bfloat16(), torch.ones(1, 3, 9, 9), "slide", crop_size=3, stride=1)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, torch.ones(1, 3, 9, 9))


@pytest.mark.parametrize("options", [{}, {"mode": "slide", "crop_size": 4, "stride": 3}])
def test_no_gradients_are_recorded(options: dict[str, Any]) -> None:
    model = torch.nn.Conv2d(3, 2, 1)
    assert not predict(model, torch.randn(1, 3, 8, 8), **options).requires_grad


def test_logits_are_resized_by_half_pixel_bilinear() -> None:
    logits = torch.tensor([[[[0.0, 4.0]]]])
    assert resize_logits(logits, (1, 4)).flatten().tolist() == [0, 1, 3, 4]
    assert resize_logits(logits, (1, 2)) is logits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "tiles"}, "mode must be 'whole' or 'slide', got 'tiles'"),
        ({"mode": "slide"}, "needs crop_size and stride"),
        ({"mode": "slide", "crop_size": 4}, "needs crop_size and stride"),
        ({"crop_size": 4, "stride": 4}, "belong to mode='slide'"),
        ({"mode": "slide", "crop_size": 4, "stride": (4, 5)}, "pixels between the windows would be missed"),
        ({"mode": "slide", "crop_size": 0, "stride": 1}, "crop_size must be a positive number"),
        ({"mode": "slide", "crop_size": (4, 4, 4), "stride": 1}, "crop_size must be a positive number"),
    ],
)
def test_bad_windows_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict(lambda x: x, torch.zeros(1, 3, 8, 8), **options)


def test_images_and_logits_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must be \[B, 3, H, W\]"):
        predict(lambda x: x, torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match=r"logits of \[2, 2\] for a window of \[4, 4\]"):
        predict(lambda x: x[..., ::2, ::2], torch.zeros(1, 3, 8, 8), "slide", crop_size=4, stride=4)
