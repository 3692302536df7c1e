"""MaskFormer with an upsampler in each step of its feature pyramid."""

import os
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DetrConfig, MaskFormerConfig
from transformers.models.maskformer.modeling_maskformer import (
    MaskFormerDetrDecoder,
    MaskformerMLPPredictionHead,
    MaskFormerTransformerModule,
)

from resfu.hosts.base import Continuation, SegmentationHead, SegmentationHost, check_num_classes
from resfu.hosts.ignored import IGNORE_INDEX
from resfu.hosts.maskformer_weights import load_pretrained
from resfu.hosts.pixel_decoder import PixelDecoder
from resfu.hosts.set_loss import Prediction, set_losses
from resfu.hosts.slot import SlotFactory
from resfu.hosts.swin import SwinEncoder, SwinVariant


class MaskFormerHead(SegmentationHead):
    """Queries that attend to C4; each of them proposes a class and a mask on the pixel decoder's features.

    Source: Cheng et al., MaskFormer, NeurIPS 2021; layers by transformers. Slots `c4`, `c3`, `c2` in `PixelDecoder`.

    Args:
        in_channels: widths of the encoder's levels, finest first.
        num_classes: number of classes, without "no object".
        create_slot: makes the slots.
        channels: width of the pyramid, the queries and the mask features, a multiple of 32.
        num_queries: number of queries.
        decoder_layers: number of decoder layers of the transformer.
        dropout: dropout rate of the transformer's attention, feed-forward layers and residuals.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        create_slot: SlotFactory,
        channels: int = 256,
        num_queries: int = 100,
        decoder_layers: int = 6,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        decoder = DetrConfig(
            use_timm_backbone=False,  # pyright: ignore[reportCallIssue]
            encoder_layers=0,
            decoder_layers=decoder_layers,
            decoder_ffn_dim=8 * channels,
            d_model=channels,
            num_queries=num_queries,
            dropout=dropout,
            attention_dropout=dropout,
            activation_dropout=dropout,
        )
        self.transformer = MaskFormerTransformerModule(in_channels[-1], MaskFormerConfig(decoder_config=decoder))
        _initialise(self.transformer.decoder)
        self.class_predictor = nn.Linear(channels, num_classes + 1)
        self.mask_embedder = MaskformerMLPPredictionHead(channels, channels, channels)
        self.pixel_decoder = PixelDecoder(in_channels, create_slot, channels)

    def upsampled_features(self, features: Sequence[Tensor], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The input and output of every slot, by name; each output has the size of the next finer level."""
        return self.pixel_decoder.upsampled(features, images)

    def forward(self, features: Sequence[Tensor], images: Tensor) -> Tensor:
        """Encoder maps and the image -> scores [B, num_classes, H, W] of the image's size.

        The masks are upsampled as logits. The score of a class is the sum over the queries of the class probability
        times the mask probability.
        """
        mask_features = self.pixel_decoder(features, images)
        classes, masks = self._predict(self._queries(features[-1])[-1], mask_features)
        masks = F.interpolate(masks, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return torch.einsum("bqk,bqhw->bkhw", classes.softmax(-1)[..., :-1], masks.sigmoid())

    def predictions(self, features: Sequence[Tensor], images: Tensor) -> list[Prediction]:
        """The predictions of the queries after each decoder layer, in order, with masks at the finest level's size."""
        mask_features = self.pixel_decoder(features, images)
        return [self._predict(queries, mask_features) for queries in self._queries(features[-1])]

    def _queries(self, deepest: Tensor) -> list[Tensor]:
        """The queries [B, Q, C] after each decoder layer."""
        states = self.transformer(deepest, output_hidden_states=True)
        # Unlike the original, transformers applies the final LayerNorm only after the last layer, and includes the
        # queries' initial zeros as first entry.
        norm = self.transformer.decoder.layernorm
        return [*(norm(state) for state in states.hidden_states[1:-1]), states.last_hidden_state]

    def _predict(self, queries: Tensor, mask_features: Tensor) -> Prediction:
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_embedder(queries), mask_features)
        return Prediction(self.class_predictor(queries), masks)


class MaskFormer(SegmentationHost):
    """MaskFormer-Swin-B and -L.

    `forward` does not return logits but scores of at least 0, as in the original's semantic inference. Take their
    argmax or average them over windows, but do not apply a softmax. Images are padded to a multiple of 32, and to at
    least 64.

    Args:
        variant: "b", "l" or a size of your own.
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of classes.
        pretrained: True for the encoder's `microsoft/swin-*-patch4-window12-384-in22k`; or the path of such weights, or
            of a whole `facebook/maskformer-swin-*` (the upsamplers then start untrained, with a warning).
        upsampler_options: further constructor arguments of the upsampler.
        drop_path_rate: stochastic depth of the encoder.
        channels: width of the pyramid, the queries and the mask features, a multiple of 32.
        num_queries: number of queries.
        decoder_layers: number of decoder layers of the transformer.
        continuation: how images are padded: by repeating their "border", or by "zeros" as in the original. Labels in a
            padding of zeros are ignored.

    Raises:
        ValueError: for an unknown variant, upsampler or option, or weights that cannot be found or do not fit.
    """

    head: MaskFormerHead  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        variant: str | SwinVariant = "b",
        upsampler: str = "resfu",
        num_classes: int = 150,
        pretrained: bool | str | os.PathLike[str] = False,
        upsampler_options: Mapping[str, object] | None = None,
        drop_path_rate: float = 0.3,
        channels: int = 256,
        num_queries: int = 100,
        decoder_layers: int = 6,
        continuation: Continuation = "border",
    ) -> None:
        check_num_classes(num_classes)
        encoder = SwinEncoder(variant, drop_path_rate)
        create_slot = SlotFactory(upsampler, upsampler_options)
        head = MaskFormerHead(encoder.channels, num_classes, create_slot, channels, num_queries, decoder_layers)
        load_pretrained(encoder, head, pretrained)
        # GroupNorm on C4 needs more than one pixel. JBU mirrors three pixels and so needs four at stride 16.
        super().__init__(encoder, head, num_classes, 4, multiple=32, minimum=64, continuation=continuation)

    def losses(
        self, images: Tensor, label: Tensor, cross_entropy: Callable[[Tensor, Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Compute the losses of `set_losses`, whose sum training minimises; `cross_entropy` is not used.

        Args:
            images: as for `forward`, at least one.
            label: int64 [B, H, W], 255 = ignored. If the image is padded by repeating its border, the label is too.
            cross_entropy: not used.

        Returns:
            "class", "mask", "dice" of the last decoder layer and "auxiliary" of the layers before it.

        Raises:
            ValueError: as `forward`, for an empty batch, and for a label of another size or outside the classes.
        """
        self._check(images)
        expected = [images.shape[0], *images.shape[-2:]]
        if list(label.shape) != expected or images.shape[0] == 0:
            raise ValueError(
                f"the label must be [B, H, W] = {expected} like the images, with B from 1; got {list(label.shape)}."
            )
        images = self._padded(images)
        bottom, right = (images.shape[n] - label.shape[n] for n in (-2, -1))
        padding = (0, right, 0, bottom)
        if self.continuation == "border":
            label = F.pad(label[:, None].float(), padding, mode="replicate")[:, 0].long()
        else:
            label = F.pad(label, padding, value=IGNORE_INDEX)
        return set_losses(self.head.predictions(self.encoder(images), images), label, self.num_classes)


def _initialise(decoder: MaskFormerDetrDecoder) -> None:
    """Initialise weights as in DETR: Xavier-uniform, with query, key and value as one matrix, as in PyTorch's layer."""
    for name, parameter in decoder.named_parameters():
        if parameter.dim() > 1:
            joint = name.rsplit(".", 2)[-2] in ("q_proj", "k_proj", "v_proj")
            nn.init.xavier_uniform_(parameter, gain=0.5**0.5 if joint else 1.0)
