"""The feature pyramid of MaskFormer with an upsampler in each of its top-down steps."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from transformers.models.maskformer.modeling_maskformer import MaskFormerFPNLayer, MaskFormerPixelDecoder

from resfu.hosts.slot import SlotFactory
from resfu.hosts.top_down import TopDownSlots


class PixelDecoder(nn.Module):
    """C4 to C1 -> one map at C1's resolution, in three steps of about x2 with slots `c4`, `c3`, `c2`.

    A step upsamples the coarser map to the size of the next lateral map (the encoder's level after a 1 x 1 convolution
    and GroupNorm), adds the lateral map and applies a convolution. The layers are those of transformers. With nearest
    upsampling the result also equals that of transformers, bit by bit.

    The guides are lateral maps, which have as many channels as the features; see `TopDownSlots` for which upsampler
    gets which guide.

    Args:
        in_channels: widths of the encoder's levels, finest first.
        create_slot: makes the slots.
        channels: width of the pyramid and of the result, a multiple of 32.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        create_slot: SlotFactory,
        channels: int = 256,
    ) -> None:
        super().__init__()
        layers = MaskFormerPixelDecoder(
            in_features=in_channels[-1],
            lateral_widths=list(in_channels[:-1]),
            feature_size=channels,
            mask_feature_size=channels,
        )
        self.fpn = layers.fpn
        self.mask_projection = layers.mask_projection
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _initialise(module)
        widths = [channels] * (len(in_channels) - 1)
        self.slots = TopDownSlots(widths, widths, create_slot)

    def forward(self, features: Sequence[Tensor], images: Tensor) -> Tensor:
        """The encoder's maps, finest first, and the image -> mask features [B, channels, H, W] at the finest's size."""
        return self.mask_projection(self._top_down(features, images)[0])

    def upsampled(self, features: Sequence[Tensor], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The input and output of every slot, by name."""
        return self._top_down(features, images)[1]

    def _top_down(self, features: Sequence[Tensor], images: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        layers = cast("list[MaskFormerFPNLayer]", list(self.fpn.layers))
        laterals = [layer.proj(level) for layer, level in zip(layers, features[-2::-1], strict=True)]
        x = self.fpn.stem(features[-1])
        pairs = {}
        for name, layer, lateral in zip(self.slots, layers, laterals, strict=True):
            upsampled = self.slots.step(name, x, lateral, laterals[-1], images)
            pairs[name] = (x, upsampled)
            x = layer.block(upsampled + lateral)
        return x, pairs


def _initialise(conv: nn.Conv2d) -> None:
    """Initialise as in Detectron2, with which MaskFormer was written: uniform with variance 1 / fan-in, bias 0."""
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
