"""Layers that upsample by more than interpolation: in several steps, transposed, by shuffled channels."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resfu import UPSAMPLERS, find_upsampling, upgrade


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 3, 32, 32)


def test_ratios_of_several_steps(images):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.skip, self.last = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            return self.last(F.interpolate(self.body(x), scale_factor=4.0, mode="bilinear") * self.skip(x))

    for upsampler in UPSAMPLERS:
        assert upgrade(Network(), upsampler, images)(images).shape == (2, 2, 32, 32)


def test_transposed_convolutions_keep_their_widths_and_sizes(images):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.Conv2d(3, 12, 3, 2, 1)
            self.up = nn.ConvTranspose2d(12, 6, 3, 2, 1, output_padding=1)
            self.last = nn.Conv2d(6, 2, 1)

        def forward(self, x):
            return self.last(self.up(self.down(x)))

    plan = find_upsampling(Network(), images)
    assert [(place.name, place.left_alone) for place in plan] == [("up#0", "learned by itself")]
    with pytest.raises(ValueError, match=r"where='all'"):
        upgrade(Network(), "resfu", images)
    with pytest.raises(ValueError, match=r"cannot start as before: the old layer \(conv_transpose2d\) is learned"):
        upgrade(Network(), "resfu", images, where="all", start="as-before")
    model = upgrade(Network(), "resfu", images, where="all")
    assert model(images).shape == (2, 2, 32, 32)
    assert not any(isinstance(part, nn.ConvTranspose2d) for part in model.modules())
    convolution = model.up.resfu["0"].projection
    assert (convolution.in_channels, convolution.out_channels, convolution.kernel_size) == (12, 6, (1, 1))
    copied = copy.deepcopy(model)
    assert torch.equal(copied(images), model(images))


def test_widths_and_sizes_that_attention_does_not_divide(images):
    model = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.Upsample(scale_factor=2), nn.Conv2d(6, 2, 1))
    assert upgrade(model, "naf", images)[1].resfu["0"].upsampler.heads == 2
    narrow = nn.Sequential(nn.Conv2d(3, 8, 32, 32), nn.Upsample(scale_factor=2), nn.Conv2d(8, 2, 1))
    with pytest.raises(ValueError, match="anyup takes features of at least two rows and columns"):
        upgrade(narrow, "anyup", torch.randn(1, 3, 32, 64))


def test_pixel_shuffles(images):
    model = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.PixelShuffle(2), nn.Conv2d(4, 2, 1))
    better = upgrade(model, "carafe", images, where="1#0")
    assert better(images).shape == (2, 2, 32, 32)
