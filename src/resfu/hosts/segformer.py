"""SegFormer with upsamplers before the fusion of its levels."""

import os
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from resfu.hosts.base import SegmentationHead, SegmentationHost, check_num_classes
from resfu.hosts.blocks import ConvNormReLU, pixel_classifier
from resfu.hosts.mit import MixTransformer
from resfu.hosts.slot import Slot, SlotFactory


class SegFormerHead(SegmentationHead):
    """All-MLP head in the form of mmsegmentation, with slots `c2`, `c3`, `c4`.

    A 1 x 1 convolution projects each level to the same number of channels. C2, C3 and C4 are upsampled to C1's size
    (x2, x4, x8), guided by the projected C1. All four are concatenated and fused. Source: arXiv 2407.02283, Sec. V-A.

    Args:
        in_channels: widths of the encoder's levels, finest first.
        num_classes: number of logits.
        create_slot: makes the slots.
        channels: width of the projected levels.
        dropout: rate at which whole channels are dropped before the classifier.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        create_slot: SlotFactory,
        channels: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.projections = nn.ModuleList(ConvNormReLU(width, channels) for width in in_channels)
        self.fusion = ConvNormReLU(channels * len(in_channels), channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = pixel_classifier(channels, num_classes)
        self.slots = nn.ModuleDict(
            {f"c{level + 1}": create_slot(channels, channels, 2**level) for level in range(1, len(in_channels))}
        )

    def upsampled_features(self, features: Sequence[Tensor], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The input [B, C, h, w] and output [B, C, H', W'] of every slot, by name."""
        return self._upsampled(self._projected(features), images)

    def forward(self, features: Sequence[Tensor], images: Tensor) -> Tensor:
        """Encoder maps and the image -> logits [B, num_classes, H', W']."""
        levels = self._projected(features)
        upsampled = [high for _, high in self._upsampled(levels, images).values()]
        return self.classifier(self.dropout(self.fusion(torch.cat([levels[0], *upsampled], dim=1))))

    def _projected(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [project(level) for project, level in zip(self.projections, features, strict=True)]

    def _upsampled(self, levels: list[Tensor], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        H, W = levels[0].shape[-2:]
        return {
            # The finer levels, from the next one up to C1, are the guides.
            name: (level, slot(level, levels[index::-1], (H, W), images))
            for index, (level, (name, slot)) in enumerate(zip(levels[1:], self.slots.items(), strict=True))
        }


class SegFormer(SegmentationHost):
    """SegFormer-MiT-B0 to B5.

    Images smaller than 32 pixels are padded to 32, which the encoder's attention needs (with image-guided upsamplers to
    64). With upsamplers that do not take any real ratio, images are padded to a multiple of 32.

    Args:
        variant: "b0" to "b5".
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of logits for each pixel.
        pretrained: True for `nvidia/mit-<variant>`, or the path of such weights.
        upsampler_options: further constructor arguments of the upsampler.
        drop_path_rate: rate of stochastic depth in the encoder.

    Raises:
        ValueError: for an unknown variant, upsampler or option, or weights that cannot be found or do not fit.
    """

    def __init__(
        self,
        variant: str = "b1",
        upsampler: str = "resfu",
        num_classes: int = 150,
        pretrained: bool | str | os.PathLike[str] = False,
        upsampler_options: Mapping[str, object] | None = None,
        drop_path_rate: float = 0.1,
    ) -> None:
        check_num_classes(num_classes)
        encoder = MixTransformer(variant, drop_path_rate)
        head = SegFormerHead(encoder.channels, num_classes, SlotFactory(upsampler, upsampler_options))
        encoder.load(pretrained)
        deepest = cast("Slot", head.slots["c4"])
        multiple, minimum = 32 if deepest.exact else 1, 32 * deepest.least
        super().__init__(encoder, head, num_classes, stride=4, multiple=multiple, minimum=minimum)
