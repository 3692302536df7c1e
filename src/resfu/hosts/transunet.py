"""TransUNet with an upsampler in each decoder step that has a skip connection."""

import os
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.hosts.base import SegmentationHead, SegmentationHost, check_num_classes
from resfu.hosts.blocks import ConvNormReLU
from resfu.hosts.dice_loss import dice_loss
from resfu.hosts.hybrid_vit import STRIDE, Form, HybridViT
from resfu.hosts.slot import SlotFactory
from resfu.hosts.top_down import TopDownSlots
from resfu.upsamplers import UPSAMPLERS, Bilinear

_LAST_CHANNELS = 16
_LOSS_WEIGHT = 0.5


class CornerAlignedBilinear(Bilinear):
    """Bilinear interpolation with `align_corners=True`, as in TransUNet."""

    def upsample(self, features: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Interpolate linearly along rows, then columns."""
        return F.interpolate(features, size=size, mode="bilinear", align_corners=True)


class TransUNetHead(SegmentationHead):
    """Decoder in four steps of x2, the first three with slots `c4`, `c3`, `c2`.

    A step upsamples, concatenates the encoder's map of the same size and applies two convolutions. The last step, from
    stride 2 to the image, has no such map and always is bilinear. Source: Chen et al., TransUNet, arXiv 2102.04306;
    slots and guides: arXiv 2407.02283, Fig. 18.

    The guides are C3, C2 and C1; see `TopDownSlots` for which upsampler gets which guide. The upsampler "bilinear"
    aligns corners here, so that the decoder equals the original's.

    Args:
        in_channels: widths of the encoder's maps, finest first.
        num_classes: number of logits.
        create_slot: makes the slots.
        channels: widths at strides 16, 8, 4 and 2; the first three are the widths of the slots.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        create_slot: SlotFactory,
        channels: tuple[int, int, int, int] = (512, 256, 128, 64),
    ) -> None:
        super().__init__()
        skips = in_channels[-2::-1]
        self.bottleneck = ConvNormReLU(in_channels[-1], channels[0], kernel_size=3)
        self.blocks = nn.ModuleList(
            _two_convolutions(low + skip, high) for low, skip, high in zip(channels, skips, channels[1:], strict=False)
        )
        self.last_block = _two_convolutions(channels[-1], _LAST_CHANNELS)
        self.classifier = nn.Conv2d(_LAST_CHANNELS, num_classes, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()  # PyTorch's own, as in the original
        self.slots = TopDownSlots(channels[:3], skips, create_slot)
        if UPSAMPLERS[create_slot.upsampler] is Bilinear:
            for slot in self.slots.values():
                slot.upsampler = CornerAlignedBilinear()

    def upsampled_features(self, features: Sequence[Tensor], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The input and output of every slot, by name; each output has the size of the encoder's next finer map."""
        return self._decode(features, images)[1]

    def forward(self, features: Sequence[Tensor], images: Tensor) -> Tensor:
        """Encoder maps and the image -> logits [B, num_classes, H, W] of the image's size."""
        x = self._decode(features, images)[0]
        x = F.interpolate(x, size=images.shape[-2:], mode="bilinear", align_corners=True)
        return self.classifier(self.last_block(x))

    def _decode(self, features: Sequence[Tensor], images: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        x = self.bottleneck(features[-1])
        pairs = {}
        for name, block, skip in zip(self.slots, self.blocks, features[-2::-1], strict=True):
            upsampled = self.slots.step(name, x, skip, features[0], images)
            pairs[name] = (x, upsampled)
            x = block(torch.cat([upsampled, skip], dim=1))
        return x, pairs


class TransUNet(SegmentationHost):
    """TransUNet R50-ViT-B16.

    Images are in 0..1, without normalisation; slices of one channel are repeated to three. They are padded to a
    multiple of 16, and to at least 32, because not every upsampler works on a single patch.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of logits for each pixel, including the background.
        pretrained: True for timm's `vit_base_r50_s16_224.orig_in21k`, or the path of such weights.
        upsampler_options: further constructor arguments of the upsampler.
        layers: numbers of the encoder's residual blocks at strides 4, 8 and 16.
        width: width of the encoder's transformer, a multiple of 64.
        depth: number of transformer blocks.
        image_size: side of the images for which the position embedding is made.
        channels: widths of the decoder at strides 16, 8, 4 and 2.
        encoder_form: "timm" for the form with which the ImageNet weights were trained, or "transunet" for that of the
            published TransUNet code (`HybridViT` lists the differences). With "transunet" and the upsampler "bilinear",
            the network is the original TransUNet.

    Raises:
        ValueError: for an unknown upsampler or option, a bad width or size, or weights that cannot be found or do not
            fit.
    """

    def __init__(
        self,
        upsampler: str = "resfu",
        num_classes: int = 9,
        pretrained: bool | str | os.PathLike[str] = False,
        upsampler_options: Mapping[str, object] | None = None,
        layers: tuple[int, int, int] = (3, 4, 9),
        width: int = 768,
        depth: int = 12,
        image_size: int = 224,
        channels: tuple[int, int, int, int] = (512, 256, 128, 64),
        encoder_form: Form = "timm",
    ) -> None:
        check_num_classes(num_classes)
        encoder = HybridViT(layers, width, depth, image_size, form=encoder_form)
        head = TransUNetHead(encoder.channels, num_classes, SlotFactory(upsampler, upsampler_options), channels)
        encoder.load(pretrained)
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        super().__init__(encoder, head, num_classes, 2, mean, std, multiple=STRIDE, minimum=2 * STRIDE)

    def losses(
        self, images: Tensor, label: Tensor, cross_entropy: Callable[[Tensor, Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """The losses: half the cross entropy and half the Dice loss, see `dice_loss`."""
        logits = self(images)
        dice = dice_loss(logits, label)
        return {"cross_entropy": _LOSS_WEIGHT * cross_entropy(logits, label), "dice": _LOSS_WEIGHT * dice}


def _two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNormReLU(in_channels, out_channels, kernel_size=3), ConvNormReLU(out_channels, out_channels, kernel_size=3)
    )
