"""Segmenter with an upsampler before its linear head."""

import os
from collections.abc import Mapping, Sequence

from torch import Tensor

from resfu.hosts.base import Continuation, SegmentationHead, SegmentationHost, check_num_classes
from resfu.hosts.blocks import pixel_classifier
from resfu.hosts.slot import DIRECT_BEFORE_CLASSIFIER, SlotFactory
from resfu.hosts.vit import MEAN, PATCH, STD, PlainViT

_TARGET = 4


class SegmenterHead(SegmentationHead):
    """One slot, `features`, from stride 16 to stride 4, followed by a 1 x 1 classifier.

    For guided upsamplers a small block of convolutions computes the guidance from the image; for other upsamplers this
    block does not exist. Source: arXiv 2407.02283, Sec. V-A.

    Args:
        channels: width of the encoder's map.
        num_classes: number of logits.
        create_slot: makes the slots.
        guidance_channels: width of the guidance.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        create_slot: SlotFactory,
        guidance_channels: int = 32,
    ) -> None:
        super().__init__()
        self.classifier = pixel_classifier(channels, num_classes)
        self.slot = create_slot(channels, guidance_channels, PATCH // _TARGET, DIRECT_BEFORE_CLASSIFIER)
        self.guidance = create_slot.image_guidance(_TARGET, guidance_channels)

    def upsampled_features(self, features: Sequence[Tensor], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The input [B, C, h, w] and output [B, C, H', W'] of every slot, by name."""
        guides = [] if self.guidance is None else [self.guidance(images)]
        H, W = images.shape[-2:]
        return {"features": (features[0], self.slot(features[0], guides, (H // _TARGET, W // _TARGET), images))}

    def forward(self, features: Sequence[Tensor], images: Tensor) -> Tensor:
        """Encoder maps and the image -> logits [B, num_classes, H', W']."""
        return self.classifier(self.upsampled_features(features, images)["features"][1])


class Segmenter(SegmentationHost):
    """Segmenter-ViT-S or L (Strudel et al., ICCV 2021) with a linear head.

    Images are padded to a multiple of 16, and to at least 32, because not every upsampler works on a single patch.

    Args:
        variant: "s" or "l".
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of logits for each pixel.
        pretrained: True for timm's `vit_<variant>_patch16_384.augreg_in21k_ft_in1k`, or the path of such weights.
        upsampler_options: further constructor arguments of the upsampler.
        image_size: side of the images for which the position embedding is made. Default: 512 ("s") or 640 ("l").
        depth: number of blocks. Default: the variant's.
        drop_path_rate: rate of stochastic depth in the encoder.
        antialias_positions: whether the position embedding is resampled with antialiasing, as in timm. Published
            Segmenters (mmsegmentation's and the authors') resample it without.
        continuation: how images are padded: by repeating their "border", or by "zeros" as published.

    Raises:
        ValueError: for an unknown variant, upsampler or option, or weights that cannot be found or do not fit.
    """

    def __init__(
        self,
        variant: str = "s",
        upsampler: str = "resfu",
        num_classes: int = 150,
        pretrained: bool | str | os.PathLike[str] = False,
        upsampler_options: Mapping[str, object] | None = None,
        image_size: int | None = None,
        depth: int | None = None,
        drop_path_rate: float = 0.1,
        antialias_positions: bool = True,
        continuation: Continuation = "border",
    ) -> None:
        check_num_classes(num_classes)
        encoder = PlainViT(variant, image_size, depth, drop_path_rate, antialias_positions)
        head = SegmenterHead(encoder.channels[0], num_classes, SlotFactory(upsampler, upsampler_options))
        encoder.load(pretrained)
        super().__init__(encoder, head, num_classes, _TARGET, MEAN, STD, PATCH, 2 * PATCH, continuation)
