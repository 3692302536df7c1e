"""A network with two upsamplers, small enough to draw."""

import torch
import torch.nn.functional as F
from torch import nn

from resfu.hosts.base import SegmentationHead, SegmentationHost
from resfu.hosts.slot import Slot
from resfu.upsamplers import ReSFU

SMALL = {"projection_dim": 8, "hidden_channels": 16}


class Levels(nn.Module):
    """Maps at stride 2, 4 and 8."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(3, 8, 1) for _ in range(3))

    def forward(self, images):
        return [convolve(F.avg_pool2d(images, 2 << n)) for n, convolve in enumerate(self.convolutions)]


class TwoSlots(SegmentationHead):
    """Stride 8 and stride 4, each to stride 2, guided by the finer levels."""

    def __init__(self, upsampler, options):
        super().__init__()
        self.slots = nn.ModuleDict({f"s{2 * r}": Slot(upsampler, 8, 8, r, options) for r in (2, 4)})

    def upsampled_features(self, features, images):
        size = features[0].shape[-2:]
        return {
            "s4": (features[1], self.slots["s4"](features[1], features[:1], size, images)),
            "s8": (features[2], self.slots["s8"](features[2], features[1::-1], size, images)),
        }

    def forward(self, features, images):
        return self.upsampled_features(features, images)["s8"][1][:, :2]


def make_host(upsampler="resfu", **options):
    torch.manual_seed(0)
    options = SMALL | options if upsampler == "resfu" else options
    host = SegmentationHost(Levels(), TwoSlots(upsampler, options), 2, stride=2, multiple=8)
    for module in host.modules():
        if isinstance(module, ReSFU):  # as after training: kernels that follow the image
            for parameter in module.parameters():
                parameter.data.mul_(4)
    return host.eval()
