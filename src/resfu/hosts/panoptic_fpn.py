"""Panoptic FPN: Mask R-CNN with a semantic head on the same feature pyramid, which contains the upsamplers."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from resfu.hosts.blocks import pixel_classifier
from resfu.hosts.fpn import CHANNELS, PyramidBackbone
from resfu.hosts.ignored import IGNORE_INDEX
from resfu.hosts.mask_rcnn import MaskRCNN, Target, load_pretrained
from resfu.hosts.panoptic_fusion import ClassAgnosticRoIHeads, fuse

_SEMANTIC_WEIGHT = 0.5
# Number of x2 steps from each level of the pyramid to stride 4.
_STEPS = {"0": 0, "1": 1, "2": 2, "3": 3}


class SemanticHead(nn.Module):
    """Semantic head: P2 to P5 are convolved and upsampled bilinearly in x2 steps to stride 4, summed and classified.

    Source: Kirillov et al., Panoptic Feature Pyramid Networks, CVPR 2019.

    Args:
        num_classes: number of logits.
        in_channels: width of the pyramid.
        channels: width of the head, a multiple of 32.
    """

    def __init__(self, num_classes: int, in_channels: int = CHANNELS, channels: int = 128) -> None:
        super().__init__()
        self.levels = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    _conv_norm_relu(channels if step else in_channels, channels) for step in range(max(1, steps))
                )
                for name, steps in _STEPS.items()
            }
        )
        self.classifier = pixel_classifier(channels, num_classes)

    def forward(self, pyramid: Mapping[str, Tensor]) -> Tensor:
        """Levels "0" to "3", each twice as large as the next -> logits [B, num_classes, H, W] at the size of "0"."""
        first, *others = (self._enlarged(name, pyramid[name]) for name in _STEPS)
        return self.classifier(sum(others, start=first))

    def _enlarged(self, name: str, x: Tensor) -> Tensor:
        layers = self.levels[name]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            x = layer(x)
            if _STEPS[name]:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return x


class PanopticFPN(MaskRCNN):
    """Panoptic FPN (Kirillov et al., CVPR 2019) on a ResNet-50: things by `MaskRCNN`, stuff by `SemanticHead`.

    The slots are those of `MaskRCNN`. The semantic head upsamples bilinearly in every variant, as in the paper.
    Detections suppress each other over all classes (`ClassAgnosticRoIHeads`).

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of classes of things.
        pretrained: see `MaskRCNN`. With a whole Mask R-CNN the semantic head starts untrained, with a warning.
        upsampler_options: further constructor arguments of the upsampler.
        frozen: see `MaskRCNN`.
        backbone: see `MaskRCNN`.
        stuff_classes: number of classes of stuff.
        score_threshold: see `fuse`.
        overlap_threshold: see `fuse`.
        stuff_area: see `fuse`; in pixels of the original image.
        **settings: further arguments of `MaskRCNN`.

    Raises:
        ValueError: as `MaskRCNN`, and without a class of stuff.
    """

    own_parts: ClassVar = {**MaskRCNN.own_parts, "semantic_head.": "semantic head"}

    def __init__(
        self,
        upsampler: str = "resfu",
        num_classes: int = 80,
        pretrained: bool | str | os.PathLike[str] = False,
        upsampler_options: Mapping[str, object] | None = None,
        frozen: bool | None = None,
        backbone: PyramidBackbone | None = None,
        stuff_classes: int = 53,
        score_threshold: float = 0.6,
        overlap_threshold: float = 0.5,
        stuff_area: int = 4096,
        **settings: Any,
    ) -> None:
        if stuff_classes < 1:
            raise ValueError(f"stuff_classes must be at least 1, got {stuff_classes}: without stuff, use Mask R-CNN.")
        # Created before the slots, so that with one seed it starts the same for every upsampler.
        semantic_head = SemanticHead(stuff_classes + 1, CHANNELS if backbone is None else backbone.out_channels)
        frozen = pretrained is not False if frozen is None else frozen
        super().__init__(upsampler, num_classes, False, upsampler_options, frozen, backbone, **settings)
        self.roi_heads = ClassAgnosticRoIHeads.like(self.roi_heads)
        self.semantic_head = semantic_head
        self.stuff_classes = stuff_classes
        self.score_threshold = score_threshold
        self.overlap_threshold = overlap_threshold
        self.stuff_area = stuff_area
        load_pretrained(self, pretrained)

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Train on images, or find their segments.

        Args:
            images: as for `MaskRCNN`.
            targets: as for `MaskRCNN`, and "semantic", int64 [H, W]: classes of stuff from 0, then one class for all
                things, 255 = ignored.

        Returns:
            In training the losses by name, including "loss_semantic". In evaluation, for every image the results of
            `MaskRCNN`, with "semantic", logits [stuff_classes + 1, H, W], and "panoptic", see `fuse`.

        Raises:
            ValueError: as `MaskRCNN`.
        """
        return super().forward(images, targets)

    def _heads(
        self,
        features: dict[str, Tensor],
        batch: ImageList,
        targets: list[dict[str, Tensor]] | None,
        sizes: list[tuple[int, int]],
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        results = super()._heads(features, batch, targets, sizes)
        logits = self.semantic_head(features).float()
        if isinstance(results, dict):
            assert targets is not None
            return results | {"loss_semantic": _SEMANTIC_WEIGHT * _semantic_loss(logits, batch, targets)}
        for i, (result, size) in enumerate(zip(results, sizes, strict=True)):
            semantic = _bilinear(logits[i : i + 1], batch.tensors.shape[-2:])
            height, width = batch.image_sizes[i]
            semantic = _bilinear(semantic[..., :height, :width], size)[0]
            thresholds = (self.score_threshold, self.overlap_threshold, self.stuff_area)
            result["semantic"] = semantic
            result["panoptic"] = fuse(result, semantic, self.num_classes, *thresholds)
        return results

    def _checked_targets(self, images: list[Tensor], targets: Sequence[Target] | None) -> Sequence[Target]:
        targets = super()._checked_targets(images, targets)
        for image, target in zip(images, targets, strict=True):
            label = target.get("semantic")
            if label is None or label.shape != image.shape[-2:] or label.dtype != torch.int64:
                got = "none" if label is None else f"{label.dtype} {list(label.shape)}"
                raise ValueError(
                    f"a target needs a semantic label, int64 {list(image.shape[-2:])} like its image, got {got}."
                )
            counted = label[label != IGNORE_INDEX]
            if len(counted) and not 0 <= int(counted.min()) <= int(counted.max()) <= self.stuff_classes:
                raise ValueError(
                    f"semantic labels must lie in 0..{self.stuff_classes} (the last is all things) or be "
                    f"{IGNORE_INDEX} (ignored), got {counted.unique().tolist()}."
                )
        return targets


def _semantic_loss(logits: Tensor, batch: ImageList, targets: Sequence[Target]) -> Tensor:
    """Cross entropy at stride 4, averaged over the labelled pixels.

    Labels are resampled to the pixel nearest to the centre of each cell ("nearest-exact"), as for the logits.
    """
    height, width = batch.tensors.shape[-2:]
    labels = []
    for (h, w), target in zip(batch.image_sizes, targets, strict=True):
        label = F.interpolate(target["semantic"][None, None].float(), size=(h, w), mode="nearest-exact")
        labels.append(F.pad(label, (0, width - w, 0, height - h), value=IGNORE_INDEX))
    label = F.interpolate(torch.cat(labels), size=logits.shape[-2:], mode="nearest-exact")[:, 0].long()
    total = F.cross_entropy(logits, label, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (label != IGNORE_INDEX).sum().clamp(min=1)


def _bilinear(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def _conv_norm_relu(in_channels: int, channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.GroupNorm(32, channels), nn.ReLU())
