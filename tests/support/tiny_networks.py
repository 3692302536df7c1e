"""Networks as small as they can be, with random weights that do not hide mistakes."""

from typing import Any

import torch
from torch import nn

from resfu.hosts.mask_rcnn import MaskRCNN
from resfu.hosts.panoptic_fpn import PanopticFPN
from resfu.hosts.transunet import TransUNet

# Few blocks, small images, few proposals; without a threshold even an untrained network finds something.
DETECTOR: dict[str, Any] = {
    "layers": (1, 1, 1, 1),
    "min_size": 64,
    "max_size": 96,
    "rpn_pre_nms_top_n_train": 40,
    "rpn_pre_nms_top_n_test": 40,
    "rpn_post_nms_top_n_train": 10,
    "rpn_post_nms_top_n_test": 10,
    "box_batch_size_per_image": 12,
    "box_score_thresh": 0.0,
    "box_detections_per_img": 5,
}
CLASSES, THINGS, STUFF = 4, 4, 3
PANOPTIC = DETECTOR | {"num_classes": THINGS, "stuff_classes": STUFF, "score_threshold": 0.0, "stuff_area": 30}
TRANSUNET: dict[str, Any] = {"layers": (1, 1, 1), "width": 64, "depth": 1, "image_size": 32}


def mask_rcnn(upsampler: str = "resfu", **options: Any) -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(upsampler, **(DETECTOR | {"num_classes": CLASSES} | options))


def panoptic_fpn(upsampler: str = "resfu", **options: Any) -> PanopticFPN:
    torch.manual_seed(0)
    return PanopticFPN(upsampler, **(PANOPTIC | options))


def transunet(upsampler: str, **options: Any) -> TransUNet:
    torch.manual_seed(0)
    return TransUNet(upsampler, 4, **(TRANSUNET | {"channels": (64, 32, 32, 16)} | options)).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def randomised(network: nn.Module) -> nn.Module:
    """Norms that start from 0 or 1 would hide mistakes, and timm's switch whole residual branches off."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.dim() == 1:
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif "pos_embed" in name:
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return network
