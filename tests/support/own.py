"""A network and data as a user brings them: `package.module:name`."""

import torch
from torch import nn
from torchvision import tv_tensors

from resfu.data import SegmentationDataset
from resfu.upsamplers import create_upsampler


class OwnHost(nn.Module):
    """Half the size and up again."""

    mean = std = (0.5, 0.5, 0.5)
    stride = 2

    def __init__(self, upsampler, num_classes, upsampler_options=None, width=8) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.guide = nn.Conv2d(3, width, 3, padding=1)
        self.up = create_upsampler(
            upsampler, channels=width, guidance_channels=width, scale_factor=2, **(upsampler_options or {})
        )
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images):
        return self.head(self.up(self.encoder(images), self.guide(images)))

    def losses(self, images, label, cross_entropy):
        return {"main": cross_entropy(self(images), label)}

    def upsampled_features(self, images):
        low = self.encoder(images)
        return {"up": (low, self.up(low, self.guide(images)))}


def own_host(upsampler, num_classes, pretrained, upsampler_options, width=8):
    return OwnHost(upsampler, num_classes, upsampler_options, width)


def finder(**options):
    raise AssertionError("is only asked for its task")


finder.task = "instances"


class OwnData(SegmentationDataset):
    """Noise with the class of its brightness."""

    classes = ("dark", "bright")
    palette = torch.tensor([[0, 0, 0], [255, 255, 255]], dtype=torch.uint8)

    def __init__(self, split, root=None, transform=None, count=4) -> None:
        super().__init__(transform)
        self.split, self.count = split, count

    def __len__(self) -> int:
        return self.count

    def load(self, index):
        generator = torch.Generator().manual_seed(index + 100 * (self.split == "val"))
        image = torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8)
        label = (image.float().mean(0) > 127).long()
        return {"image": tv_tensors.Image(image), "label": tv_tensors.Mask(label), "name": f"{self.split}-{index}"}


def stranger(**options):
    """A network for a task that there is not."""
    return own_host(**options)


stranger.task = "dreams"
