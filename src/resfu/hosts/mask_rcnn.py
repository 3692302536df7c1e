"""Mask R-CNN with an upsampler in each step of its feature pyramid."""

import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from resfu.hosts.base import check_num_classes
from resfu.hosts.fpn import PyramidBackbone, ResNetFPN, UpsamplingFPN, load_known
from resfu.hosts.slot import SlotFactory
from resfu.hosts.weights import read_weights

_LEVELS = ["0", "1", "2", "3"]
# JBU mirrors three pixels, so it needs four of them at stride 16.
_SMALLEST = 64

Target = Mapping[str, Any]


class MaskRCNN(TorchvisionMaskRCNN):
    """Mask R-CNN (He et al., ICCV 2017) on a ResNet-50 with a feature pyramid, with torchvision's layers.

    Inputs and results follow torchvision's conventions. The slots `c4`, `c3`, `c2` are in `UpsamplingFPN`. Settings are
    those of mmdetection's `mask-rcnn_r50_fpn_1x`, on which Table XII of arXiv 2407.02283 is based, as far as
    torchvision supports them: 1,000 proposals also in training, and RoIAlign with as many samples as a bin has pixels.
    As in torchvision remain: a background column in the predictors, RoIAlign with an offset of half a pixel ("aligned"
    is off), smooth-L1 box losses, and fixed weight and bias of batch normalisation. With nearest upsampling the result
    equals torchvision's with the same settings, bit by bit.

    Images are resized by torchvision according to `min_size` and `max_size`, and padded with zeros to a multiple of 32,
    at least 64.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of object classes, without the background.
        pretrained: True for torchvision's `ResNet50_Weights.IMAGENET1K_V1`; or the path of such weights, or of a whole
            Mask R-CNN with torchvision's names. Upsamplers that are not in the file start untrained, with a warning.
        upsampler_options: further constructor arguments of the upsampler.
        frozen: see `ResNetFPN`. Default: True with pretrained weights, else False.
        backbone: an encoder whose pyramid is not set yet. Default: a ResNet.
        layers: numbers of blocks of the ResNet's four stages; (3, 4, 6, 3) is ResNet-50.
        min_size: pixels of the images' shorter side. If there are several, training draws one of them at random, and
            evaluation uses the last.
        max_size: pixels that the longer side must not exceed.
        sampling_ratio: samples per side of RoIAlign's bins; 0 for as many as the bin has pixels; torchvision has 2.
        **settings: further arguments of torchvision's `MaskRCNN`, such as `box_score_thresh`.

    Raises:
        ValueError: for an unknown upsampler, option or setting, or weights that cannot be found or do not fit.

    Warns:
        UserWarning: when a whole network leaves an upsampler untrained.
    """

    backbone: PyramidBackbone
    transform: GeneralizedRCNNTransform
    # Images are in 0..1; torchvision normalises them itself.
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    stride = 4
    # Parts that the weights of a whole network may lack: beginnings of their names, and words for messages.
    own_parts: ClassVar[Mapping[str, str]] = {"backbone.fpn.slots.": "upsamplers"}

    def __init__(
        self,
        upsampler: str = "resfu",
        num_classes: int = 80,
        pretrained: bool | str | os.PathLike[str] = False,
        upsampler_options: Mapping[str, object] | None = None,
        frozen: bool | None = None,
        backbone: PyramidBackbone | None = None,
        layers: Sequence[int] = (3, 4, 6, 3),
        min_size: int | Sequence[int] = 800,
        max_size: int = 1333,
        sampling_ratio: int = 0,
        **settings: Any,
    ) -> None:
        check_num_classes(num_classes)
        sizes = (min_size,) if isinstance(min_size, int) else tuple(min_size)
        if backbone is None:
            backbone = ResNetFPN(layers, pretrained is not False if frozen is None else frozen)
        given: dict[str, Any] = {
            "backbone": backbone,
            "num_classes": None if "box_predictor" in settings else num_classes + 1,
            "min_size": sizes,
            "max_size": max_size,
            "box_roi_pool": MultiScaleRoIAlign(_LEVELS, 7, sampling_ratio),
            "mask_roi_pool": MultiScaleRoIAlign(_LEVELS, 14, sampling_ratio),
        }
        _check_settings(settings, taken=given)
        super().__init__(**given, **{"rpn_post_nms_top_n_train": 1000, **settings})
        for predictor in (self.rpn.head, self.roi_heads.box_predictor, self.roi_heads.mask_predictor):
            cast("nn.Module", predictor).register_forward_hook(_in_full_precision)
        create_slot = SlotFactory(upsampler, upsampler_options)
        backbone.fpn = UpsamplingFPN(backbone.in_channels, create_slot, backbone.out_channels)
        self.num_classes = num_classes
        self.min_sizes = sizes
        load_pretrained(self, pretrained)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, images: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Train on images, or find the objects in them.

        Args:
            images: [3, H, W] each, of any size, floating point in 0..1, not normalised.
            targets: in training, for every image a dictionary with "boxes", float [N, 4] (x1, y1, x2, y2 in pixels),
                "labels", int64 [N] in 1..num_classes, and "masks", uint8 [N, H, W]; N may be 0.

        Returns:
            In training the losses by name, whose sum is minimised. In evaluation, for every image a dictionary with
            "boxes" [N, 4], "labels" [N], "scores" [N] (the best first) and "masks" [N, 1, H, W] in 0..1.

        Raises:
            ValueError: for images or targets of another form, and for training without images or targets.
        """
        images = self._checked(images)
        if self.training:
            targets = self._checked_targets(images, targets)
        if not images:
            return []
        batch, resized = self.transform(images, targets if self.training else None)
        batch = _padded(batch)
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        return self._heads(self.backbone(batch.tensors), batch, resized, sizes)

    def upsampled_features(self, images: Sequence[Tensor] | Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the inputs and outputs of the upsamplers for images that are not resized.

        Args:
            images: as for `forward`, at least one.

        Returns:
            For every slot, by name: low-resolution features [B, C, h, w] and upsampled features [B, C, H', W']. Both
            cover the images after padding to a common size that the network accepts.

        Raises:
            ValueError: as `forward`, and for an empty batch.
        """
        images = self._checked(images)
        if not images:
            raise ValueError("upsampled_features needs at least one image, got an empty batch.")
        normalised = [self.transform.normalize(image) for image in images]
        return self.backbone.upsampled(_padded(self.transform.batch_images(normalised)))

    def _heads(
        self,
        features: dict[str, Tensor],
        batch: ImageList,
        targets: list[dict[str, Tensor]] | None,
        sizes: list[tuple[int, int]],
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Run all layers after the pyramid; `sizes` are those of the images before resizing."""
        proposals, losses = self.rpn(batch, features, targets)
        found, more_losses = self.roi_heads(features, proposals, batch.image_sizes, targets)
        if self.training:
            return {**more_losses, **losses}
        return self.transform.postprocess(found, batch.image_sizes, sizes)

    def _checked(self, images: Sequence[Tensor] | Tensor) -> list[Tensor]:
        images = list(images)
        smallest, largest = min(self.min_sizes), self.transform.max_size
        for image in images:
            if not isinstance(image, Tensor) or image.dim() != 3 or image.shape[0] != 3 or image.numel() == 0:
                got = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
                raise ValueError(f"images must be [3, H, W] each, with at least one pixel, got {got}.")
            if not image.is_floating_point():
                raise ValueError(f"images must be floating point in 0..1, got {image.dtype}: divide by 255.")
            short, long = sorted(image.shape[-2:])
            if int(short * min(smallest / short, largest / long)) < 1:
                raise ValueError(
                    f"an image of {image.shape[-2]} x {image.shape[-1]} pixels vanishes when its longer side is "
                    f"brought to max_size={largest}: crop it, or raise max_size."
                )
        return images

    def _checked_targets(self, images: list[Tensor], targets: Sequence[Target] | None) -> Sequence[Target]:
        if targets is None or not images or len(targets) != len(images):
            got = "none" if targets is None else len(targets)
            raise ValueError(
                f"training needs at least one image, and one target an image: got {len(images)} images and {got} "
                "targets. Call .eval() first to find objects."
            )
        for image, target in zip(images, targets, strict=True):
            _check_target(target, (image.shape[-2], image.shape[-1]), self.num_classes)
        return targets


def load_pretrained(network: MaskRCNN, source: bool | str | os.PathLike[str]) -> None:
    """Load weights into the encoder, or into a whole network.

    Args:
        network: a Mask R-CNN or a network derived from it.
        source: True fetches the encoder's ImageNet weights (or takes them from the cache). A path reads a file or
            folder with the weights of an encoder or of a whole network. False does nothing.

    Raises:
        ValueError: when there are none or they do not fit; the message names the missing or unexpected ones.

    Warns:
        UserWarning: when the file of a whole network has no weights for some parts.
    """
    if source is False:
        return
    if source is True:
        network.backbone.load_imagenet()
        return
    where = os.fspath(source)
    weights = read_weights(where)
    if not any(name.startswith("roi_heads.") for name in weights):
        network.backbone.load_encoder(weights, where)
        return
    absent = {
        part: words for part, words in network.own_parts.items() if not any(name.startswith(part) for name in weights)
    }
    untrained = load_known(network, weights, where, tuple(absent))
    if untrained:
        parts = [words for part, words in absent.items() if any(name.startswith(part) for name in untrained)]
        warnings.warn(
            f"{where} is a whole network, but has no weights for the {' and the '.join(parts)} ({len(untrained)} "
            f"tensors, {untrained[0]} and so on): they start untrained.",
            stacklevel=3,
        )


def _in_full_precision(module: nn.Module, arguments: object, output: Any) -> Any:
    """Convert predictions to fp32 under autocast: torchvision makes boxes in their dtype, too coarse in bf16."""
    if not isinstance(output, Tensor):
        return type(output)(_in_full_precision(module, arguments, each) for each in output)
    return output.float() if torch.is_autocast_enabled(output.device.type) else output


def _padded(batch: Any) -> Any:
    """Pad images, or a torchvision list of images, with zeros at the bottom and right up to the smallest size."""
    if isinstance(batch, ImageList):
        return ImageList(_padded(batch.tensors), batch.image_sizes)
    bottom, right = (max(0, _SMALLEST - n) for n in batch.shape[-2:])
    return F.pad(batch, (0, right, 0, bottom)) if bottom or right else batch


def _check_settings(settings: Mapping[str, object], taken: Mapping[str, object]) -> None:
    # torchvision ignores unknown names without an error.
    known = [name for name in inspect.signature(TorchvisionMaskRCNN).parameters if name not in {*taken, "kwargs"}]
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ValueError(f"Mask R-CNN has no setting {', '.join(unknown)}; torchvision's are {', '.join(known)}.")


def _check_target(target: Target, size: tuple[int, int], num_classes: int) -> None:
    absent = [name for name in ("boxes", "labels", "masks") if name not in target]
    if absent:
        raise ValueError(f"a target needs boxes, labels and masks: it lacks {', '.join(absent)}.")
    boxes, labels, masks = target["boxes"], target["labels"], target["masks"]
    number = len(labels)
    if list(boxes.shape) != [number, 4] or list(masks.shape) != [number, *size] or labels.dim() != 1:
        raise ValueError(
            f"a target of {number} objects in an image of {size[0]} x {size[1]} has boxes [{number}, 4], labels "
            f"[{number}] and masks [{number}, {size[0]}, {size[1]}]; got {list(boxes.shape)}, {list(labels.shape)} and "
            f"{list(masks.shape)}."
        )
    if not boxes.is_floating_point() or labels.dtype != torch.int64:
        raise ValueError(f"boxes must be floating point and labels int64, got {boxes.dtype} and {labels.dtype}.")
    if number == 0:
        return
    if not bool((boxes[:, 2:] > boxes[:, :2]).all()):
        raise ValueError(f"boxes are x1, y1, x2, y2 with x1 < x2 and y1 < y2, got {boxes.tolist()}.")
    margin = max(size)  # RoIAlign reads as many samples as a box has pixels
    if not bool(((boxes > -margin) & (boxes < 2 * margin)).all()):
        raise ValueError(f"boxes count pixels of the image of {size[0]} x {size[1]}, got {boxes.tolist()}.")
    if not 1 <= int(labels.min()) <= int(labels.max()) <= num_classes:
        raise ValueError(f"labels must lie in 1..{num_classes} (0 is the background), got {labels.unique().tolist()}.")
