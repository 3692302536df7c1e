"""A module may run several times in a pass: the guide is the map of the run that was seen."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resfu import UPSAMPLERS, find_upsampling, load_upgraded, save_upgraded, upgrade


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


class Boxes(nn.Module):
    """A detector in small: features of the images, and a mask for each of three boxes in an image."""

    def __init__(self):
        super().__init__()
        self.e1, self.e2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.join, self.mask, self.classify = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x):
        fine = self.e1(x)
        mixed = self.join(fine + F.interpolate(self.e2(fine), scale_factor=2))
        boxes = self.mask(torch.cat([mixed[..., n : n + 16, n : n + 16] for n in (0, 4, 8)]))
        return self.classify(F.interpolate(boxes, size=mixed.shape[-2:], mode="bilinear"))


def test_a_guide_shows_the_same_images(images):
    net, image = Boxes().eval(), images[0]
    plan = find_upsampling(net, image)
    assert [guide.name for guide in plan[0].guides] == ["e1", "image"]
    assert plan[1].call.size == plan[0].call.size
    assert plan[1].guides == []  # maps of that size exist, but of other images
    for method, count in (("resfu", 1), ("carafe", 2)):
        better = upgrade(net, method, image)
        assert sum(type(part) is UPSAMPLERS[method] for part in better.modules()) == count
        torch.testing.assert_close(better(image), net(image))
    with pytest.raises(ValueError, match="there is no guide for #1: name one with guidance="):
        upgrade(net, "resfu", image, where=["#1"])


class Nothing(nn.Module):
    def forward(self, x):
        return x[:, :0]


class EmptySkip(OneReLU):
    """Some encoders return a map without channels where they have no features."""

    def __init__(self):
        super().__init__()
        self.nothing = Nothing()

    def forward(self, x):
        low = self.relu(self.c2(self.relu(self.c1(x))))
        skip = self.nothing(x)
        up = F.interpolate(low, size=x.shape[-2:], mode="bilinear")
        return self.head(torch.cat([up, skip, up], 1))[..., 1:]


def test_a_map_without_channels_is_no_guide(images):
    net, image = EmptySkip().eval(), images[0]
    assert [guide.name for guide in find_upsampling(net, image)[0].guides] == ["image"]
    torch.testing.assert_close(upgrade(net, "resfu", image)(image), net(image))


class Pasted(nn.Module):
    """Pastes each channel in a loop, to sizes that depend on the channel."""

    def __init__(self):
        super().__init__()
        self.e1, self.up, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Upsample(scale_factor=2), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        maps = self.head(self.up(self.e1(x)))
        sizes = (64, 40, 64, 30)
        return [F.interpolate(maps[:, n : n + 1].sigmoid(), size, mode="bilinear") for n, size in enumerate(sizes)]


def test_a_loop_has_one_row_in_the_table(images):
    net = Pasted()
    lines = str(find_upsampling(net, images[0])).splitlines()
    assert len(lines) == 5  # head, rule, two rows, summary
    cells = lines[3].split()
    assert cells[:4] == ["#0", "to", "#3", "bilinear"]
    assert cells[4:10] == ["64", "x", "64", "various", "various", "1"]
    assert "no: logits to the image or to a smaller size" in lines[3]
    assert lines[4].startswith("5 places")
    assert len(find_upsampling(net, images[0])) == 5
