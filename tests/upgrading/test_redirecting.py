"""However somebody's forward reaches `interpolate`: found, replaced, and everything else left as it was."""

import copy
import functools
import pickle

import pytest
import torch
import torch.nn.functional
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import interpolate

from benchmarks.upgrade_networks import YoloNeck
from resfu import find_upsampling, upgrade
from tests.upgrading import helpers_elsewhere
from tests.upgrading.helpers_elsewhere import resize_like

double = functools.partial(F.interpolate, scale_factor=2, mode="bilinear")


class Body(nn.Module):
    """Two maps of an image: 8 channels of the size, 8 channels of half of it."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, images):
        fine = self.fine(images)
        return self.last(self.up(self.coarse(fine), fine))


class Alias(Body):
    def up(self, x, like):
        return F.interpolate(x, size=like.shape[-2:], mode="bilinear") + like


class Full(Body):
    def up(self, x, like):
        return torch.nn.functional.interpolate(x, size=like.shape[-2:], mode="bilinear") + like


class Imported(Body):
    def up(self, x, like):
        return interpolate(x, scale_factor=2, mode="bilinear") + like


class Helper(Body):
    def up(self, x, like):
        return resize_like(x, like) + like


class HelperOfModule(Body):
    def up(self, x, like):
        return helpers_elsewhere.resize_like(x, like) + like


class GlobalPartial(Body):
    def up(self, x, like):
        return double(x) + like


class OwnPartial(Body):
    def __init__(self):
        super().__init__()
        self.resize = functools.partial(F.interpolate, scale_factor=2, mode="bilinear")

    def up(self, x, like):
        return self.resize(x) + like


class Inner(Body):
    def up(self, x, like):
        def to(size):
            return next(F.interpolate(y, size=size, mode="bilinear") for y in (x,))

        return to(like.shape[-2:]) + like


def shouting(function):
    @functools.wraps(function)
    def wrapped(self, *args, **kwargs):
        return function(self, *args, **kwargs) * 1

    return wrapped


class Decorated(Body):
    @shouting
    def forward(self, images):
        fine = self.fine(images)
        return self.last(F.interpolate(self.coarse(fine), size=fine.shape[-2:], mode="bilinear") + fine)


class Static(Body):
    @staticmethod
    def resized(x, size):
        return F.interpolate(x, size=size, mode="bilinear")

    def up(self, x, like):
        return self.resized(x, like.shape[-2:]) + like


class Old(Body):
    def up(self, x, like):
        return F.upsample(x, scale_factor=2, mode="bilinear") + like


NETWORKS = (
    Alias, Full, Imported, Helper, HelperOfModule, GlobalPartial, OwnPartial, Inner, Decorated, Static, Old
)  # fmt: skip


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 3, 16, 16)


@pytest.mark.filterwarnings("ignore:.*upsample. is deprecated")
@pytest.mark.parametrize("network", NETWORKS)
def test_found_and_replaced_and_bit_equal(network, images):
    model = network()
    plan = find_upsampling(model, images)
    assert [(place.name, place.call.ratio, place.guides[0].name) for place in plan] == [("#0", (2, 2), "fine")]
    assert torch.equal(upgrade(model, "same", images)(images), model(images))
    other = upgrade(model, "nearest", images)
    assert not torch.allclose(other(images), model(images))
    start = upgrade(model, "carafe", images)
    assert torch.equal(start(images), model(images))
    for copied in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        assert torch.equal(copied(images), other(images))


def test_a_copy_has_upsamplers_of_its_own(images):
    model = upgrade(OwnPartial(), "resfu", images, start="published")
    other = copy.deepcopy(model)
    for parameter in other.resfu.parameters():
        nn.init.constant_(parameter, 0.5)
    assert not torch.allclose(other(images), model(images))
    assert isinstance(model, OwnPartial)
    assert "OwnPartial" in repr(model)


def up(x, like):
    return resize_like(x, like) + like


class SameName(Body):
    """A helper that calls another of its name."""

    def up(self, x, like):
        return up(x, like)


class Counting(Body):
    """A method that calls itself."""

    def up(self, x, like, times=2):
        return self.up(x, like, times - 1) if times else F.interpolate(x, scale_factor=2, mode="bilinear") + like


def again(x, times):
    return again(x, times - 1) if times else F.interpolate(x, scale_factor=2, mode="bilinear")


class CountingHelper(Body):
    def up(self, x, like):
        return again(x, 2) + like


@pytest.mark.parametrize("network", [SameName, Counting, CountingHelper])
def test_functions_of_one_name(network, images):
    model = network()
    assert not torch.allclose(upgrade(model, "nearest", images)(images), model(images))
    assert torch.equal(upgrade(model, "carafe", images)(images), model(images))


class Local(Body):
    def up(self, x, like):
        from torch.nn.functional import interpolate as resized

        return resized(x, scale_factor=2) + like


class Inherited(Alias):
    def forward(self, images):
        return super().forward(images)


@pytest.mark.parametrize("network", [Local, Inherited])
def test_what_cannot_be_redirected_says_so(network, images):
    with pytest.raises(ValueError, match=r"cannot be redirected|could not be redirected"):
        upgrade(network(), "resfu", images)


class Steps(nn.Sequential):
    """A sequence whose own forward interpolates, as torchvision's ASPP pooling."""

    def forward(self, x):
        size = x.shape[-2:]
        for layer in self:
            x = layer(x)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def test_a_sequence_does_not_run_its_upsamplers_as_steps(images):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Steps(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()), nn.Conv2d(8, 4, 1))
    better = upgrade(model, "resfu", images)
    assert better(images).shape == (2, 4, 16, 16)
    assert len(better[1]) == 2
    assert isinstance(better[1][-1], nn.ReLU)
    assert torch.equal(better[1][:1](better[0](images)), model[1][:1](model[0](images)))
    assert torch.allclose(better(images), model(images), atol=1e-6)


def test_an_upsample_that_is_called_several_times_has_one_upsampler_a_call():
    neck, images = YoloNeck(), torch.randn(1, 3, 32, 32)
    better = upgrade(neck, "carafe", images)
    assert [name for name, _ in better.up.resfu.named_children()] == ["0", "1"]
    assert [part.upsampler.channels for part in better.up.resfu.values()] == [32, 16]
    for a, b in zip(better(images), neck(images), strict=True):
        assert torch.equal(a, b)


def test_what_the_parts_inside_call_is_left_alone(images):
    """An encoder that resamples its position embedding only at other sizes does not shift the count."""

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Parameter(torch.randn(1, 8, 8, 8))
            self.patch = nn.Conv2d(3, 8, 2, 2)

        def forward(self, images):
            x = self.patch(images)
            if x.shape[-2:] == (8, 8):
                return x + self.embedding
            return x + F.interpolate(self.embedding, size=x.shape[-2:], mode="bicubic")

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.last = Encoder(), nn.Conv2d(8, 4, 1)

        def forward(self, images):
            return self.last(F.interpolate(self.encoder(images), scale_factor=2, mode="bilinear"))

    model = Network()
    larger = torch.randn(1, 3, 24, 32)
    assert [place.left_alone for place in find_upsampling(model, larger)] == ["position embedding", ""]
    better = upgrade(model, "resfu", images)
    for x in (images, larger):
        assert torch.allclose(better(x), model(x), atol=1e-5)
