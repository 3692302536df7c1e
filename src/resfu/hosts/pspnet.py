"""PSPNet with an upsampler in front of its classifier."""

import os
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.hosts.base import SegmentationHead, SegmentationHost, check_num_classes
from resfu.hosts.blocks import ConvNormReLU, pixel_classifier
from resfu.hosts.resnet import DilatedResNet
from resfu.hosts.slot import DIRECT_BEFORE_CLASSIFIER, SlotFactory
from resfu.ops.pooling import adaptive_average

_BINS = (1, 2, 3, 6)
_AUXILIARY_WEIGHT = 0.4


class PSPHead(SegmentationHead):
    """Pyramid pooling in the form of mmsegmentation, with one slot, `features`, from stride 8 to stride 2.

    The deepest map is average-pooled to 1, 2, 3 and 6 bins per side. The pooled maps are projected, upsampled and
    concatenated with the deepest map, and a 3 x 3 convolution reduces the channels. The result is upsampled x4, guided
    by the stem's map, and classified. Sources: Zhao et al., CVPR 2017; arXiv 2407.02283, Sec. V-A.

    Args:
        in_channels: widths of the encoder's maps, finest first; the first is the guidance.
        num_classes: number of logits.
        create_slot: makes the slots.
        channels: width of the pooled and of the upsampled features.
        auxiliary: whether there is a second classifier, on the second deepest map, for the auxiliary loss.
        dropout: rate at which whole channels are dropped before the classifiers.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        create_slot: SlotFactory,
        channels: int = 512,
        auxiliary: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        deepest = in_channels[-1]
        self.pyramid = nn.ModuleList(ConvNormReLU(deepest, channels) for _ in _BINS)
        self.bottleneck = ConvNormReLU(deepest + channels * len(_BINS), channels, kernel_size=3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = pixel_classifier(channels, num_classes)
        self.auxiliary = _auxiliary_classifier(in_channels[-2], num_classes, dropout) if auxiliary else None
        self.slot = create_slot(channels, in_channels[0], 4, DIRECT_BEFORE_CLASSIFIER)

    def upsampled_features(self, features: Sequence[Tensor], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The input [B, C, h, w] and output [B, C, H', W'] of every slot, by name."""
        stem, low = features[0], self._pooled(features[-1])
        # The guide at stride 4 is pooled from the stem's map as in the encoder.
        guides = [F.max_pool2d(stem, 3, stride=2, padding=1), stem] if self.slot.needs_guides else []
        H, W = stem.shape[-2:]
        return {"features": (low, self.slot(low, guides, (H, W), images))}

    def forward(self, features: Sequence[Tensor], images: Tensor) -> Tensor:
        """Encoder maps and the image -> logits [B, num_classes, H', W']."""
        return self.classifier(self.dropout(self.upsampled_features(features, images)["features"][1]))

    def _pooled(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        pooled = [project(adaptive_average(x, (bins, bins))) for project, bins in zip(self.pyramid, _BINS, strict=True)]
        spread = [F.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in pooled]
        return self.bottleneck(torch.cat([x, *spread], dim=1))


class PSPNet(SegmentationHost):
    """PSPNet on a dilated ResNet-50 or 101.

    Images smaller than 16 pixels are padded to 16, because not every upsampler works on a single pixel of features.
    With upsamplers of whole ratios, images are padded to a multiple of 8. Training needs at least two images in a
    batch: the coarsest pooled map is a single pixel, and batch normalisation has no variance with one image.

    Args:
        depth: 50 or 101, or 14 for a small network.
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of logits for each pixel.
        pretrained: True for timm's `resnet<depth>c.gluon_in1k`, or the path of such weights.
        upsampler_options: further constructor arguments of the upsampler.
        auxiliary: whether to train with the auxiliary loss. Its classifier is not counted in published model sizes.
        channels: width of the upsampled features.

    Raises:
        ValueError: for an unknown depth, upsampler or option, or weights that cannot be found or do not fit.
    """

    def __init__(
        self,
        depth: int = 50,
        upsampler: str = "resfu",
        num_classes: int = 150,
        pretrained: bool | str | os.PathLike[str] = False,
        upsampler_options: Mapping[str, object] | None = None,
        auxiliary: bool = True,
        channels: int = 512,
    ) -> None:
        check_num_classes(num_classes)
        encoder = DilatedResNet(depth)
        create_slot = SlotFactory(upsampler, upsampler_options)
        head = PSPHead(encoder.channels, num_classes, create_slot, channels, auxiliary)
        encoder.load(pretrained)
        super().__init__(encoder, head, num_classes, stride=2, multiple=8 if head.slot.exact else 1, minimum=16)

    def losses(
        self, images: Tensor, label: Tensor, cross_entropy: Callable[[Tensor, Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """The losses: "main", and "auxiliary", which is 0.4 times the cross entropy of the auxiliary classifier."""
        assert isinstance(self.head, PSPHead)
        if self.head.auxiliary is None:
            return super().losses(images, label, cross_entropy)
        self._check(images)
        H, W = images.shape[-2:]
        images = self._padded(images)
        features = self.encoder(images)

        def entropy(logits: Tensor) -> Tensor:
            logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
            return cross_entropy(logits[..., :H, :W], label)

        return {
            "main": entropy(self.head(features, images)),
            "auxiliary": _AUXILIARY_WEIGHT * entropy(self.head.auxiliary(features[-2])),
        }


def _auxiliary_classifier(in_channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    width = in_channels // 4
    return nn.Sequential(
        ConvNormReLU(in_channels, width, kernel_size=3), nn.Dropout2d(dropout), pixel_classifier(width, num_classes)
    )
