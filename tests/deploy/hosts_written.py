"""Writes small networks for ONNX Runtime and OpenVINO, and prints the largest difference of each at unseen sizes.

Of some only the program that both are made from is run, which is what holds an open size or not. In a process of its
own, since the shape checks that pytest's hook adds to the package break graph capture.
"""

import gc
import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import resfu
from resfu.deploy.export_program import Shapes, program_of
from resfu.deploy.export_runtimes import RUNTIMES
from resfu.hosts.base import SegmentationHost
from resfu.hosts.lite import LiteHost
from resfu.hosts.pspnet import PSPHead
from resfu.hosts.segmenter import Segmenter
from resfu.hosts.slot import SlotFactory
from resfu.ops import reassemble
from resfu.ops.portable import portable_form
from resfu.upsamplers import Iterative

EXAMPLE = (1, 96, 128)  # a multiple of what every network pads to, where it is easiest to leave the padding out
SQUARE = (1, 64, 64)  # where it is easiest to take columns for rows
PROGRAMS = ("upgraded resfu", "doubled", "chain", "pads")
SIZES = ((1, 97, 65), (3, 75, 90), (2, 5, 20), (1, 64, 64))


class Strided(nn.Module):
    """An encoder of two convolutions: maps at strides 2 and 8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 8, 5, 4, 2)

    def forward(self, images: Tensor) -> list[Tensor]:
        stem = self.stem(images)
        return [stem, self.deep(stem)]


class Padding(nn.Module):
    """A network of somebody else, which rounds up as Python programmers do and pads by zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 5, 4, 2)

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = (-(-n // 4) for n in images.shape[-2:])
        low = self.first(images)
        return nn.functional.interpolate(low, size=(3 * rows, 3 * columns), mode="bilinear")


class Pyramid(nn.Module):
    """A network of somebody else, which goes to the size of an earlier map: twice the later one's, or one less."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        second = self.second(first)
        return first + nn.functional.interpolate(second, size=first.shape[2:], mode="bilinear")


class Pads(nn.Module):
    """A network of somebody else, which pads to a multiple of 8 columns and upsamples one result after the other.

    Eight more rows, because a program may take a size of 1 for a constant.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(width, 4, 3, 2, 1) for width in (3, 4, 4))

    def forward(self, images: Tensor) -> Tensor:
        x, maps = nn.functional.pad(images, (0, -images.shape[3] % 8, 0, 8)), []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        for guide in (maps[1], maps[0]):
            x = reassemble(x, guide.repeat(1, 3, 1, 1)[:, :9], None, "coarse") + guide
        return x


def made(name: str) -> nn.Module:
    """The network of a case."""
    torch.manual_seed(0)
    slots = SlotFactory("bilinear")
    if name == "segmenter":
        return Segmenter("s", "bilinear", 3, depth=1, image_size=64)
    if name == "pspnet":
        return SegmentationHost(Strided(), PSPHead((4, 8), 3, slots, channels=4, auxiliary=False), 3, 2, minimum=16)
    if name == "lite":
        return LiteHost("bilinear", 3, feature_stride=8, channels=4)
    if name == "doubled":  # at odd sizes larger than the image that guides it
        net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Upsample(scale_factor=2), nn.Conv2d(8, 4, 1))
        return resfu.upgrade(net, "sapa", torch.rand(1, 3, *EXAMPLE[1:]), start="published")
    if name == "chain":
        steps = Iterative([resfu.create_upsampler("dysample", channels=16, scale_factor=2) for _ in range(2)])
        return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), steps)
    if name.startswith("upgraded"):
        return resfu.upgrade(Pyramid(), name.split()[1], torch.rand(*SQUARE[:1], 3, *SQUARE[1:]), start="published")
    return Pads() if name == "pads" else Padding()


def main(folder: Path, names: list[str]) -> None:
    """Write, run and print each case."""
    torch.set_num_threads(1)
    gc.freeze()  # a search for garbage among all that is imported and captured takes a seventh of the time
    gc.set_threshold(100_000, 20, 100)
    for name in names:
        net = made(name).eval()
        example = SQUARE if name.startswith("upgraded") else EXAMPLE
        program = program_of(net, Shapes((torch.randn(example[0], 3, *example[1:]),), True))
        images = [torch.randn(b, 3, H, W) for b, H, W in SIZES]
        with torch.no_grad():
            wanted = [net(x) for x in images]
        for suffix in ("",) if name in PROGRAMS else (".onnx", ".xml"):
            path = folder / f"{name}{suffix}"
            if suffix:
                RUNTIMES[suffix].write(program, path)
                run = RUNTIMES[suffix].load(path)
                found = [run((x,)) for x in images]
            else:
                with portable_form(), torch.no_grad():
                    found = [program.module(check_guards=False)(x) for x in images]  # as runtimes do
            assert [x.shape for x in found] == [x.shape for x in wanted], path
            worst = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, wanted, strict=True)]
            print(json.dumps({path.name: max(worst)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
