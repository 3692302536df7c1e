"""A toy host and a toy data set under the names "toy", small enough to train in milliseconds."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

import resfu.data
import resfu.hosts
from resfu.data import SegmentationDataset
from resfu.tasks.label_maps import LabelMapData, LabelMapModule


class ToyHost(nn.Module):
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)
    stride = 1

    def __init__(self, upsampler, num_classes, pretrained, upsampler_options) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Conv2d(8, num_classes, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))

    def losses(self, images, label, cross_entropy):
        return {"main": cross_entropy(self(images), label)}


class ToyData(SegmentationDataset):
    """Squares of colour on noise; a strip of every label is ignored."""

    classes = ("ground", "square", "never")
    palette = torch.tensor([[0, 0, 0], [255, 0, 0], [0, 0, 255]], dtype=torch.uint8)

    def __init__(self, split, root=None, transform=None, count=6) -> None:
        super().__init__(transform)
        self.split, self.count = split, count

    def __len__(self) -> int:
        return self.count

    def load(self, index):
        generator = torch.Generator().manual_seed(index + 100 * (self.split == "val"))
        image = torch.randint(0, 256, (3, 16, 20), generator=generator, dtype=torch.uint8)
        label = torch.zeros(16, 20, dtype=torch.int64)
        row, column = torch.randint(0, 10, (2,), generator=generator).tolist()
        image[:, row : row + 6, column : column + 8] = 200
        label[row : row + 6, column : column + 8] = 1
        label[:, -2:] = 255
        return {"image": tv_tensors.Image(image), "label": tv_tensors.Mask(label), "name": f"{self.split}-{index}"}


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(resfu.hosts.HOSTS, "toy", ToyHost)
    monkeypatch.setitem(resfu.data.DATASETS, "toy", ToyData)
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def toy_task():
    """Make a task on the toy host, always with the same weights."""

    def make(**options):
        torch.manual_seed(0)
        return LabelMapModule("toy", "bilinear", num_classes=3, **options)

    return make


@pytest.fixture
def toy_data():
    """Make a data module on the toy data."""

    def make(**options):
        options = {"crop_size": (16, 16), "scale_range": (0.8, 1.5), **options}
        return LabelMapData("toy", mean=ToyHost.mean, std=ToyHost.std, **options)

    return make
