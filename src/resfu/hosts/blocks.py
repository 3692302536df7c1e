"""Small parts that several heads share."""

import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops.layout import pad
from resfu.upsamplers.normalization import BatchNorm2d


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch normalisation, ReLU.

    The weights are initialised as in mmsegmentation: normal, with variance 2 / fan-out.

    Args:
        in_channels: width of the input.
        out_channels: width of the output.
        kernel_size: of the convolution, odd; borders are padded with zeros.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H, W]."""
        return F.relu(self.norm(self.conv(x)))


class ImageGuidance(nn.Module):
    """Guidance from the image: two 3 x 3 convolutions with replicated borders and a normalisation between them.

    Source: the ConvBlock of the Segmenter host, arXiv 2407.02283, which has stride 4 and 20,384 parameters.

    Args:
        stride: stride of the guidance in image pixels, 2 or 4.
        channels: width of the guidance.
        hidden_channels: width between the convolutions.

    Raises:
        ValueError: for another stride.
    """

    def __init__(self, stride: int = 4, channels: int = 32, hidden_channels: int = 64) -> None:
        super().__init__()
        if stride not in (2, 4):
            raise ValueError(f"the stride of an image guidance must be 2 or 4, got {stride}.")
        self.conv1 = nn.Conv2d(3, hidden_channels, 3, stride=2)
        self.norm = nn.GroupNorm(1, hidden_channels)
        self.conv2 = nn.Conv2d(hidden_channels, channels, 3, stride=stride // 2)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, channels, ceil(H / stride), ceil(W / stride)]."""
        # ReLU after the padding and in place, so that training stores one map of the hidden channels less.
        hidden = pad(self.norm(self.conv1(pad(images, 1, 1))), 1, 1).relu_()
        return self.conv2(hidden)


def pixel_classifier(channels: int, num_classes: int) -> nn.Conv2d:
    """1 x 1 convolution to class logits; weights normal with deviation 0.01, bias 0."""
    classifier = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)  # pyright: ignore[reportArgumentType]
    return classifier
