"""torchvision's feature pyramid with an upsampler in each top-down step, and the encoders below it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torchvision.models import ResNet50_Weights
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from resfu.hosts.slot import SlotFactory
from resfu.hosts.top_down import TopDownSlots
from resfu.hosts.weights import check_keys

CHANNELS = 256


class UpsamplingFPN(FeaturePyramidNetwork):
    """The feature pyramid of Lin et al. (CVPR 2017) with slots `c4`, `c3`, `c2` in its top-down steps.

    A step upsamples the coarser map to the size of the next lateral map (the encoder's level after a 1 x 1 convolution)
    and adds both. The guides are lateral maps, which have as many channels as the features; see `TopDownSlots` for
    which upsampler gets which guide. Layers and names are torchvision's. With nearest upsampling the result also equals
    torchvision's, bit by bit. Convolutions are initialised as in mmdetection: Xavier-uniform, bias 0.

    Args:
        in_channels: widths of the encoder's levels, finest first.
        create_slot: makes the slots.
        channels: width of the pyramid, a multiple of 32.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        create_slot: SlotFactory,
        channels: int = CHANNELS,
    ) -> None:
        super().__init__(list(in_channels), channels, LastLevelMaxPool())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        widths = [channels] * (len(in_channels) - 1)
        self.slots = TopDownSlots(widths, widths, create_slot)

    def forward(self, x: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The encoder's maps by name, finest first, and the image -> the pyramid by the same names, and "pool"."""
        return self._top_down(x, images)[0]

    def upsampled(self, x: Mapping[str, Tensor], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The input and output of every slot, by name."""
        return self._top_down(x, images)[1]

    def _top_down(
        self, x: Mapping[str, Tensor], images: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        names, levels = list(x), list(x.values())
        laterals = [project(level) for project, level in zip(self.inner_blocks, levels, strict=True)]
        inner = laterals[-1]
        inners = [inner]
        pairs = {}
        for name, lateral in zip(self.slots, laterals[-2::-1], strict=True):
            upsampled = self.slots.step(name, inner, lateral, laterals[0], images)
            pairs[name] = (inner, upsampled)
            inner = lateral + upsampled
            inners.insert(0, inner)
        outputs = [convolve(inner) for convolve, inner in zip(self.layer_blocks, inners, strict=True)]
        assert self.extra_blocks is not None
        outputs, names = self.extra_blocks(outputs, levels, names)
        return dict(zip(names, outputs, strict=True)), pairs


class PyramidBackbone(nn.Module, ABC):
    """An encoder and the feature pyramid on its maps; the pyramid is set later, by the code that builds the network.

    Args:
        body: images [B, 3, H, W], with sides that are multiples of 32 -> maps "0" to "3" at strides 4 to 32.
        in_channels: numbers of channels of these maps.
        channels: width of the pyramid.
    """

    fpn: UpsamplingFPN

    def __init__(self, body: nn.Module, in_channels: Sequence[int], channels: int = CHANNELS) -> None:
        super().__init__()
        self.body = body
        self.in_channels = tuple(in_channels)
        self.out_channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W], with sides that are multiples of 32 -> "0" to "3" at strides 4 to 32, "pool" at 64."""
        pyramid = self.fpn(self.body(images), images)
        # torchvision makes anchors in the features' dtype; in bf16, under autocast, they would be wrong by pixels.
        return {name: level.to(images.dtype) for name, level in pyramid.items()}

    def upsampled(self, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The input and output of every slot, by name."""
        return self.fpn.upsampled(self.body(images), images)

    @abstractmethod
    def load_imagenet(self) -> None:
        """Load the encoder's ImageNet weights, which are fetched or taken from an installed package.

        Raises:
            ValueError: when they cannot be found.
        """

    @abstractmethod
    def load_encoder(self, weights: Mapping[str, Tensor], where: str) -> None:
        """Load weights into the encoder.

        Args:
            weights: the weights, with their published names.
            where: the source of the weights, for messages.

        Raises:
            ValueError: when they do not fit; the message names the missing or unexpected ones.
        """


class ResNetFPN(PyramidBackbone):
    """A ResNet of bottleneck blocks, with torchvision's names.

    Args:
        layers: numbers of blocks of the four stages; (3, 4, 6, 3) is ResNet-50.
        frozen: fix batch normalisation, including its weight and bias, and do not train the stem and the first stage,
            as torchvision and mmdetection do with ImageNet weights.
    """

    def __init__(self, layers: Sequence[int], frozen: bool) -> None:
        resnet = ResNet(Bottleneck, list(layers), norm_layer=FrozenBatchNorm2d if frozen else nn.BatchNorm2d)
        if frozen:
            for module in (resnet.conv1, resnet.bn1, resnet.layer1):
                module.requires_grad_(False)
        body = IntermediateLayerGetter(resnet, {f"layer{level}": str(level - 1) for level in range(1, 5)})
        super().__init__(body, (256, 512, 1024, 2048))

    def load_imagenet(self) -> None:
        """Load torchvision's ImageNet weights, from its cache or the network."""
        name = "ResNet50_Weights.IMAGENET1K_V1"
        try:
            weights = ResNet50_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        except OSError as error:
            raise ValueError(
                f"the weights {name} of torchvision could not be fetched and are not in the cache. Without a network, "
                "give the path of a downloaded file as pretrained, or pretrained=False for random weights."
            ) from error
        self.load_encoder(weights, name)

    def load_encoder(self, weights: Mapping[str, Tensor], where: str) -> None:
        """Load weights with torchvision's names into the encoder; weights of a classifier are ignored."""
        load_known(self.body, {name: value for name, value in weights.items() if not name.startswith("fc.")}, where)


def load_known(
    module: nn.Module, weights: Mapping[str, Tensor], where: str, optional: tuple[str, ...] = ()
) -> list[str]:
    """Load weights with torchvision's names, including those of its old versions.

    Args:
        module: the module into which they are loaded.
        weights: weights for all parameters, except those whose names start with `optional`.
        where: the source of the weights, for messages.
        optional: beginnings of the names that may be missing.

    Returns:
        The names that were missing.

    Raises:
        ValueError: for other weights that are missing, unexpected or of another shape.
    """
    own = module.state_dict()
    misshapen = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    check_keys(where, misshapen=misshapen)
    # torchvision's modules also accept the names of its old versions.
    found = module.load_state_dict(weights, strict=False)
    # Old files lack the counters of batch normalisation, which are not used here.
    missing = [name for name in found.missing_keys if not name.endswith(".num_batches_tracked")]
    check_keys(
        where,
        missing=[name for name in missing if not (optional and name.startswith(optional))],
        unexpected=found.unexpected_keys,
    )
    return missing
