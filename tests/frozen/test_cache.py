"""The features of frozen encoders on disk."""

import pytest
import torch
from torch import nn

import resfu
from resfu.frozen.encoder import FrozenEncoder
from tests.support import apart


class Layers(nn.Module):
    """A map at stride 8, from one of two layers of the same weights."""

    def __init__(self, layer=0):
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(nn.Conv2d(3, 8, 8, stride=8) for _ in range(2))
        self.layer = layer

    def forward(self, images):
        return self.convs[self.layer](images)


class Second(Layers):
    """The second layer, by its code alone."""

    def forward(self, images):
        return self.convs[1](images)


class Picked(Layers):
    """A layer that a function picks."""

    def __init__(self, pick):
        super().__init__()
        self.pick = pick

    def forward(self, images):
        return self.pick(self.convs)(images)


@pytest.fixture
def images():
    return torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))


def test_an_encoder_is_asked_once(tmp_path, images):
    network, calls = Layers(), []
    network.register_forward_hook(lambda *_: calls.append(1))
    pf = resfu.PixelFeatures(network, cache=tmp_path)
    calls.clear()
    first = pf(images)
    assert len(calls) == len(list(tmp_path.iterdir())) == 2
    assert torch.equal(resfu.PixelFeatures(Layers(), cache=tmp_path)(images), first)
    assert torch.equal(pf(images), first)
    assert len(calls) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_images_of_equal_numbers_and_another_shape(tmp_path):
    images = torch.rand(1, 3, 14, 16)  # both become 16 x 16
    for one in (images, images.view(1, 3, 16, 14)):
        cached, plain = (resfu.PixelFeatures(Layers(), cache=folder).low(one) for folder in (tmp_path, None))
        assert torch.equal(cached, plain)


def strided(stride):
    network = Layers()
    network.convs[0].stride = stride
    return network


def doubled(network):
    def again(images, times=2):
        return network(images) * 2 if times == 1 else again(images, times - 1)  # its closure holds itself

    return FrozenEncoder(network, call=again)


OTHERS = [
    pytest.param(lambda: Layers(1), id="an attribute"),
    pytest.param(Second, id="the code of the forward"),
    pytest.param(lambda: Picked(lambda layers: layers[1]), id="a function"),
    pytest.param(lambda: strided(4), id="a setting of a layer"),
    pytest.param(lambda: FrozenEncoder(Layers(), mean=(0.5, 0.5, 0.5)), id="normalisation"),
    pytest.param(lambda: FrozenEncoder(Layers(), name="other"), id="name"),
    pytest.param(lambda: doubled(Layers()), id="what is called"),
]


@pytest.mark.parametrize("make", OTHERS)
def test_another_encoder_of_equal_weights(tmp_path, images, make):
    first = [resfu.PixelFeatures(one, cache=tmp_path).low(images) for one in (Layers(), Picked(lambda at: at[0]))]
    assert torch.equal(*first)
    count = len(list(tmp_path.iterdir()))
    found = resfu.PixelFeatures(make(), cache=tmp_path).low(images)
    assert torch.equal(found, resfu.PixelFeatures(make()).low(images))
    assert len(list(tmp_path.iterdir())) == count + 2


@pytest.mark.parametrize(
    "change", [lambda network: network.convs[0].weight.add_(1), lambda network: setattr(network, "layer", 1)]
)
def test_an_encoder_that_changes_later(tmp_path, images, change):
    network = Layers()
    pf = resfu.PixelFeatures(network, cache=tmp_path)
    before = pf.low(images)
    with torch.no_grad():
        change(network)
    after = pf.low(images)
    assert not torch.equal(after, before)
    assert torch.equal(after, resfu.PixelFeatures(network).low(images))


def test_a_buffer_that_is_not_saved_counts(tmp_path, images):
    class Scaled(Layers):
        def __init__(self, factor):
            super().__init__()
            self.register_buffer("factor", torch.tensor(factor), persistent=False)

        def forward(self, images):
            return self.factor * super().forward(images)

    one, two = (resfu.PixelFeatures(Scaled(factor), cache=tmp_path).low(images) for factor in (1.0, 2.0))
    assert torch.equal(2 * one, two)


def test_scripted_networks(tmp_path, images):
    with pytest.warns(FutureWarning, match="is deprecated"):
        network = torch.jit.script(nn.Sequential(nn.Conv2d(3, 8, 8, stride=8)))
    pf = resfu.PixelFeatures(network, cache=tmp_path)
    assert torch.equal(pf.low(images), pf.low(images))


def test_a_damaged_file_is_written_again(tmp_path, images):
    pf = resfu.PixelFeatures(Layers(), cache=tmp_path)
    want = pf.low(images)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-40])
    assert torch.equal(pf.low(images), want)
    assert torch.equal(resfu.PixelFeatures(Layers(), cache=tmp_path).low(images), want)


def test_half_precision_and_modules_without_weights(tmp_path, images):
    whole = resfu.PixelFeatures(Layers(), cache=tmp_path).low(images)
    half = resfu.PixelFeatures(Layers().bfloat16(), cache=tmp_path).low(images)
    assert (whole.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    pooled = resfu.PixelFeatures(nn.AvgPool2d(8), cache=tmp_path)
    assert torch.equal(pooled.low(images), pooled.low(images))
    assert len(list(tmp_path.iterdir())) == 6


ANOTHER = """
import sys, torch, resfu
from torch import nn

torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.GELU())
resfu.PixelFeatures(network, cache=sys.argv[1]).low(torch.full((1, 3, 40, 56), 0.25))
"""


def test_another_process_finds_the_files(tmp_path):
    apart.run(ANOTHER, str(tmp_path / "there"))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.GELU())
    resfu.PixelFeatures(network, cache=tmp_path / "here").low(torch.full((1, 3, 40, 56), 0.25))
    there, here = ([file.name for file in (tmp_path / name).iterdir()] for name in ("there", "here"))
    assert there == here


def test_features_of_another_precision_are_others(images, tmp_path):
    pf = resfu.PixelFeatures(Layers(), cache=tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        low = pf.low(images)
        assert torch.equal(pf.low(images), low)
    assert pf.low(images).dtype == torch.float32
    assert torch.equal(pf.low(images), resfu.PixelFeatures(Layers()).low(images))


class Tokens(nn.Module):
    """Patches of 16, after one token of a class."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 16, stride=16)

    def forward(self, images):
        x = self.conv(images).flatten(2).mT
        return torch.cat([x[:, :1], x], 1)


def test_the_first_image_of_another_process_is_found(tmp_path):
    network, image, needed = Tokens(), torch.rand(3, 64, 64), []
    for _ in range(2):  # an object of its own for each process
        pf, calls = resfu.PixelFeatures(network, cache=tmp_path, stride=16, channels=8), []
        handle = network.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        pf(image)
        handle.remove()
        needed.append(len(calls))
    assert needed == [1, 0]
