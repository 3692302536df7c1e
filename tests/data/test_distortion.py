"""Changes of colour for training."""

import colorsys

import pytest
import torch
from torchvision import tv_tensors

from resfu.data.transforms import (
    PhotometricDistortion,
)
from resfu.data.transforms.photometric import scale_saturation


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.5])
def test_saturation_is_that_of_hsv(factor):
    image = torch.rand(3, 6, 7, dtype=torch.float64)
    image[:, 0, 0], image[:, 0, 1] = 0.0, 0.5  # black and grey have no saturation to scale
    scaled = scale_saturation(image, factor)
    for row in range(6):
        for column in range(7):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[:, row, column].tolist())
            expected = colorsys.hsv_to_rgb(hue, min(1.0, factor * saturation), value)
            torch.testing.assert_close(scaled[:, row, column], torch.tensor(expected, dtype=torch.float64))


def test_distortion_changes_the_image_within_bounds_and_not_the_label():
    image = tv_tensors.Image(torch.rand(3, 16, 16))
    label = tv_tensors.Mask(torch.randint(0, 5, (16, 16)))
    changed = 0
    for _ in range(64):
        out = PhotometricDistortion()({"image": image, "label": label})
        assert isinstance(out["image"], tv_tensors.Image)
        assert out["image"].min() >= 0
        assert out["image"].max() <= 1
        assert torch.equal(out["label"], label)
        changed += not torch.equal(out["image"], image)
    # All four are left out 1 time in 16.
    assert 50 <= changed < 64


def test_distortion_draws_each_change_half_of_the_time_within_its_range():
    drawn = [PhotometricDistortion().make_params([]) for _ in range(400)]
    limits = {"brightness": (-32 / 255, 32 / 255), "saturation": (0.5, 1.5), "hue": (-0.1, 0.1)}
    for name, (low, high) in limits.items():
        values = [params[name] for params in drawn if params[name] is not None]
        assert 150 < len(values) < 250
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(values) <= high
    before = sum(params["contrast_before"] is not None for params in drawn)
    after = sum(params["contrast_after"] is not None for params in drawn)
    assert 70 < before < 130
    assert 70 < after < 130
    assert not any(params["contrast_before"] and params["contrast_after"] for params in drawn)
