"""A module may run several times in a pass: the guide is the map of the run that was seen."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resfu import find_upsampling, load_upgraded, save_upgraded, upgrade


class OneReLU(nn.Module):
    """One activation module for all layers, as many people write it."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.relu = nn.ReLU()
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        self.a = self.relu(self.c1(x))
        self.b = self.relu(self.c2(self.a))
        c = self.relu(self.c3(self.b))
        return self.head(torch.cat([F.interpolate(c, size=self.b.shape[-2:], mode="bilinear"), self.b], 1))


class Siamese(nn.Module):
    """Change detection: one encoder and one decoder for two images."""

    def __init__(self):
        super().__init__()
        self.e1, self.e2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.head, self.up = nn.Conv2d(8, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x, y):
        maps = []
        for image in (x, y):
            skip = self.e1(image)
            maps.append((skip, self.e2(skip.relu())))
        self.skips = [skip for skip, _ in maps]
        first, second = (self.head(self.up(deep) + skip) for skip, deep in maps)
        return first - second


def guides_of(upgraded, place):
    """What guides a place, from now on."""
    found = []
    upsampler = place.upsampler
    upsampler.register_forward_pre_hook(lambda module, args: found.append(args[1]))
    return found


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)


def test_one_activation_for_all_layers(images, tmp_path):
    net = OneReLU()
    names = [guide.name for guide in find_upsampling(net, images[0])[0].guides]
    assert names[:2] == ["relu#1", "c2"]
    for guidance in ("auto", "relu", "relu#1"):
        better = upgrade(net, "resfu", images[0], guidance=guidance)
        seen = guides_of(better, better.resfu["0"])
        for _ in range(2):
            better(images[0])
            assert seen.pop() is better.b
    first = upgrade(net, "resfu", images[0], guidance="relu#0", where="#0")
    seen = guides_of(first, first.resfu["0"])
    first(images[0])
    torch.testing.assert_close(seen.pop(), F.avg_pool2d(first.a, 2))  # brought to the size of the output
    save_upgraded(better, tmp_path / "net")
    again = load_upgraded(tmp_path / "net", OneReLU())
    torch.testing.assert_close(again(images[0]), better(images[0]))
    better = upgrade(net, "resfu", images[0], guidance={"#0": "c2"})
    seen = guides_of(better, better.resfu["0"])
    better(images[0])
    torch.testing.assert_close(seen[0].relu(), better.b)


def test_two_images_have_a_guide_each(images):
    better = upgrade(Siamese(), "resfu", *images)
    seen = [guides_of(better, better.up.resfu[number]) for number in "01"]
    better(*images)
    assert [guides[0] is skip for guides, skip in zip(seen, better.skips, strict=True)] == [True, True]
