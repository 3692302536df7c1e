"""`upgrade` of networks that are built in other ways than by plain modules, each its own."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor

from resfu import find_upsampling, load_upgraded, save_upgraded, upgrade


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(2, 3, 64, 64)


class Skip(nn.Module):
    """A decoder behind an encoder that gives two maps."""

    def __init__(self, body, widths):
        super().__init__()
        self.body, self.lateral = body, nn.ModuleList(nn.Conv2d(c, 8, 1) for c in widths)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        maps = self.body(x)
        fine, coarse = (
            layer(f) for layer, f in zip(self.lateral, maps.values() if isinstance(maps, dict) else maps, strict=True)
        )
        return self.head(fine + F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear"))


def assert_begins_as_before(net, images, **options):
    better = upgrade(net, "resfu", images, **options)
    with torch.no_grad():
        torch.testing.assert_close(better(images), net(images), rtol=1e-5, atol=1e-5)
    return better


def test_a_graph_stays_in_evaluation_mode(images):
    body = create_feature_extractor(torchvision.models.resnet18(weights=None), ["layer1", "layer2"])
    better = assert_begins_as_before(Skip(body, (64, 128)).eval(), images)
    assert not any(module.training for module in better.modules())


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1)

    def forward(self, x):
        a = self.a(x)
        return a, self.b(a)


@pytest.mark.parametrize("kind", ["script", "trace"])
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_an_encoder_in_torchscript(images, kind):
    body = torch.jit.script(Two()) if kind == "script" else torch.jit.trace(Two(), images)
    net = Skip(body, (4, 8)).eval()
    assert [place.left_alone for place in find_upsampling(net, images)] == [""]
    assert_begins_as_before(net, images)


class Pooled(nn.Module):
    """Maps of 2 x 2, whatever the image's size, and one of half the image's."""

    def __init__(self):
        super().__init__()
        self.stem, self.down, self.head = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        fine = self.stem(x)
        coarse = self.down(fine)
        pooled = F.interpolate(F.adaptive_avg_pool2d(coarse, 2), size=coarse.shape[-2:], mode="bilinear")
        return self.head(fine + F.interpolate(coarse + pooled, size=fine.shape[-2:], mode="bilinear"))


def test_pooled_maps_go_to_any_size(images):
    net = Pooled().eval()
    better = upgrade(net, "resfu", images)
    for size in ((128, 64), (96, 160), (32, 32)):
        other = torch.rand(1, 3, *size)
        torch.testing.assert_close(better(other), net(other), rtol=1e-5, atol=1e-5)


class Antialiased(nn.Module):
    def __init__(self, mode, align_corners=False):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 4, 3, padding=1)
        self.options = {"mode": mode, "align_corners": align_corners}

    def forward(self, x):
        return self.b(F.interpolate(self.a(x), scale_factor=2, antialias=True, **self.options))


@pytest.mark.parametrize(("mode", "align_corners"), [("bicubic", False), ("bicubic", True), ("bilinear", True)])
def test_antialiasing_that_changes_upsampling_has_no_start(images, mode, align_corners):
    assert_begins_as_before(Antialiased("bilinear").eval(), images)
    net = Antialiased(mode, align_corners).eval()
    with pytest.raises(ValueError, match=f"cannot start as before: it was {mode}, antialiased interpolation"):
        upgrade(net, "resfu", images, start="as-before")
    assert upgrade(net, "resfu", images)(images).shape == net(images).shape  # with the published start


class Twice(nn.Module):
    """One nn.Upsample under two names."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(c, 8, 3, 2, 1) for c in (3, 8, 8))
        up = nn.Upsample(scale_factor=2)
        self.ups, self.head = nn.ModuleList([up, up]), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(a)
        return self.head(self.ups[1](self.ups[0](self.c(b)) + b) + a)


def test_a_module_under_two_names_is_saved_and_loaded(images, tmp_path):
    net = Twice().eval()
    better = upgrade(net, "carafe", images)
    with torch.no_grad():
        for parameter in better.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    save_upgraded(better, tmp_path)
    again = load_upgraded(tmp_path, Twice().eval())
    assert torch.equal(again(images), better(images))


@pytest.mark.parametrize(
    ("upsampler", "where", "words"),
    [("resfu", "all", "the network does not upsample"), ("same", None, "the network does not upsample")],
)
def test_nothing_to_replace(images, upsampler, where, words):
    with pytest.raises(ValueError, match=words):
        upgrade(nn.Sequential(nn.Conv2d(3, 3, 1)), upsampler, images, where=where)


@pytest.mark.parametrize(("upsampler", "where"), [("resfu", []), ({}, None)])
def test_nothing_asked_for(images, upsampler, where):
    with pytest.raises(ValueError, match=r"(where=\[\] finds|the mapping names) no place to replace"):
        upgrade(Twice(), upsampler, images, where=where)
