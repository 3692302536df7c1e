"""A box head for tests that write checkpoints: torchvision's own is half of a tiny network's 30 million weights."""

from torch import nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead


class NarrowBoxHead(TwoMLPHead):
    """In place of `torchvision.models.detection.faster_rcnn.TwoMLPHead`: the same layers, 16 channels between them."""

    def __init__(self, in_channels: int, representation_size: int) -> None:
        nn.Module.__init__(self)
        self.fc6, self.fc7 = nn.Linear(in_channels, 16), nn.Linear(16, representation_size)
