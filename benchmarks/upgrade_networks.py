"""Networks of five libraries, small and with random weights, and what they upsample, counted by hand.

Each entry says how the network is made, the size of its input, and in the order in which they run its calls that
change a resolution: the ratio rounded to two digits, "T" before it for a transposed convolution, "-" behind it for what
is left alone unless it is asked for.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Network:
    make: Callable[[], nn.Module]
    calls: str
    size: tuple[int, ...] = (2, 3, 64, 64)
    listed: bool = False  # whether it takes a list of images

    def inputs(self) -> tuple:
        torch.manual_seed(1)
        images = torch.randn(self.size)
        return (list(images),) if self.listed else (images,)

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.make().eval()


def torchvision(name: str, **options) -> nn.Module:
    from torchvision.models import segmentation

    return getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5, **options)


def fcn() -> nn.Module:
    """FCN on a ResNet-50 with one block a stage."""
    from torchvision.models.resnet import Bottleneck, ResNet
    from torchvision.models.segmentation.fcn import _fcn_resnet

    return _fcn_resnet(ResNet(Bottleneck, [1, 1, 1, 1], replace_stride_with_dilation=[False, True, True]), 5, None)


def deeplab() -> nn.Module:
    """DeepLab whose norms know their statistics: without them its random features are constant."""
    net = torchvision("deeplabv3_mobilenet_v3_large")
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        net.train()(torch.randn(4, 3, 64, 64))
    return net


def faster_rcnn() -> nn.Module:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.models.resnet import BasicBlock, ResNet

    body = _resnet_fpn_extractor(ResNet(BasicBlock, [1, 1, 1, 1]), 5)
    return FasterRCNN(body, 3, min_size=64, max_size=64, box_detections_per_img=2, rpn_post_nms_top_n_test=5)


def smp(name: str, encoder: str = "resnet18", **options) -> nn.Module:
    import segmentation_models_pytorch

    return getattr(segmentation_models_pytorch, name)(encoder, encoder_weights=None, classes=3, **options)


def smp_dpt() -> nn.Module:
    return smp("DPT", "tu-vit_tiny_patch16_224.augreg_in21k", decoder_fusion_channels=16, dynamic_img_size=True)


def swin():
    from transformers import SwinConfig

    stages = [f"stage{n}" for n in range(1, 5)]
    return SwinConfig(
        embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=4, image_size=64, out_features=stages
    )


def segformer() -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    heads = {"num_attention_heads": [1, 2, 3, 4], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16, "num_labels": 5}
    return SegformerForSemanticSegmentation(SegformerConfig(hidden_sizes=[8, 16, 24, 32], **heads))


def dpt() -> nn.Module:
    from transformers import DPTConfig, DPTForSemanticSegmentation

    widths = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "neck_hidden_sizes": [8, 16, 24, 32],
        "fusion_hidden_size": 16,
    }
    depth = {"num_hidden_layers": 4, "num_attention_heads": 2, "backbone_out_indices": [0, 1, 2, 3], "num_labels": 5}
    return DPTForSemanticSegmentation(DPTConfig(image_size=64, patch_size=16, **widths, **depth))


def upernet() -> nn.Module:
    from transformers import UperNetConfig, UperNetForSemanticSegmentation

    auxiliary = {"auxiliary_in_channels": 64, "auxiliary_channels": 16}
    return UperNetForSemanticSegmentation(
        UperNetConfig(backbone_config=swin(), hidden_size=16, num_labels=5, **auxiliary)
    )


def maskformer() -> nn.Module:
    from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation, MaskFormerSwinConfig

    layers = {"encoder_layers": 1, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    stages = {"depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4, "image_size": 64}
    body = MaskFormerSwinConfig(embed_dim=16, out_features=[f"stage{n}" for n in range(1, 5)], **stages)
    decoder = DetrConfig(d_model=32, num_queries=6, use_pretrained_backbone=False, **layers)
    return MaskFormerForInstanceSegmentation(
        MaskFormerConfig(mask_feature_size=32, fpn_feature_size=32, backbone_config=body, decoder_config=decoder)
    )


def mask2former() -> nn.Module:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    widths = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "dim_feedforward": 32, "num_queries": 6}
    layers = {"encoder_layers": 1, "decoder_layers": 3, "num_attention_heads": 2, "encoder_feedforward_dim": 32}
    return Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=swin(), **widths, **layers))


def depth_anything() -> nn.Module:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    body = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_features=[f"stage{n}" for n in range(1, 5)],
        reshape_hidden_states=False,
    )
    widths = {"neck_hidden_sizes": [8, 16, 24, 32], "fusion_hidden_size": 16, "head_hidden_size": 8}
    return DepthAnythingForDepthEstimation(
        DepthAnythingConfig(backbone_config=body, reassemble_hidden_size=32, patch_size=14, **widths)
    )


def monai(name: str, **options) -> nn.Module:
    from monai.networks import nets

    return getattr(nets, name)(spatial_dims=2, **options)


def timm_pyramid() -> nn.Module:
    import timm

    return Pyramid(timm.create_model("resnet18", pretrained=False, features_only=True, out_indices=(1, 2, 3)))


class Pyramid(nn.Module):
    """A top-down path over the maps of any timm backbone, as many people write it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.lateral = nn.ModuleList(nn.Conv2d(c, 16, 1) for c in body.feature_info.channels())

    def forward(self, images: Tensor) -> Tensor:
        maps = [layer(x) for layer, x in zip(self.lateral, self.body(images), strict=True)]
        top = maps.pop()
        for x in reversed(maps):
            top = x + nn.functional.interpolate(top, size=x.shape[-2:], mode="nearest")
        return top


class YoloNeck(nn.Module):
    """The neck of a one-stage detector: nn.Upsample, concatenation, convolution, on three maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.SiLU())
        self.down = nn.ModuleList([nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)])
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.mix = nn.ModuleList([nn.Conv2d(48, 16, 1), nn.Conv2d(24, 8, 1)])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p3 = self.stem(images)
        p4 = self.down[0](p3)
        p5 = self.down[1](p4)
        n4 = self.mix[0](torch.cat([self.up(p5), p4], 1))
        n3 = self.mix[1](torch.cat([self.up(n4), p3], 1))
        return n3, n4, p5


NETWORKS: dict[str, Network] = {
    "torchvision deeplabv3": Network(deeplab, "4- 16-"),
    "torchvision fcn": Network(fcn, "8-", (2, 3, 32, 32)),
    "torchvision lraspp": Network(lambda: torchvision("lraspp_mobilenet_v3_large"), "2 8-"),
    "torchvision fasterrcnn": Network(faster_rcnn, "1- 1- 2 2 2", listed=True),
    "transformers SegFormer": Network(segformer, "1- 2 4 8"),
    "transformers DPT": Network(dpt, "1- T4- T2- 2 2 2 2 2-"),
    "transformers UperNet": Network(upernet, "2- 1- 0.67- 0.33- 2 2 2 8 4 2 4- 16-"),
    "transformers MaskFormer": Network(maskformer, "2 2 2"),
    "transformers Mask2Former": Network(mask2former, "2 0.12- 0.25- 0.5-"),
    "transformers DepthAnything": Network(depth_anything, "1.2- T4- T2- 1.7 2 2 2 1.8", (2, 3, 70, 84)),
    "smp Unet": Network(lambda: smp("Unet", decoder_channels=(32, 16, 16, 8, 8)), "2 2 2 2 2"),
    "smp UnetPlusPlus": Network(lambda: smp("UnetPlusPlus", decoder_channels=(32, 16, 16, 8, 8)), "2 " * 11),
    "smp FPN": Network(
        lambda: smp("FPN", decoder_pyramid_channels=16, decoder_segmentation_channels=32), "2 " * 9 + "4-"
    ),
    "smp PAN": Network(lambda: smp("PAN"), "8- 2- 2 2 1- 2 2 4-", (1, 3, 128, 128)),
    "smp Linknet": Network(lambda: smp("Linknet"), "T2- T2- T2- T2- T2-"),
    "smp DeepLabV3Plus": Network(lambda: smp("DeepLabV3Plus", decoder_channels=16), "4- 4 4-"),
    "smp Segformer": Network(lambda: smp("Segformer", decoder_segmentation_channels=16), "8 4 2 1- 0.5- 4-"),
    "smp UPerNet": Network(lambda: smp("UPerNet", decoder_channels=16), "2- 1- 0.67- 0.33- 2 2 2 8 4 2 1- 4-"),
    "smp DPT": Network(smp_dpt, "0.29- T4- T2- 2 2 2 2 2-", (1, 3, 64, 64)),
    "monai UNet": Network(
        lambda: monai("UNet", in_channels=3, out_channels=2, channels=(8, 16, 32), strides=(2, 2)), "T2- T2-"
    ),
    "monai BasicUNet": Network(
        lambda: monai("BasicUNet", in_channels=3, out_channels=2, features=(8, 8, 16, 16, 32, 8)), "T2- T2- T2- T2-"
    ),
    "monai SegResNet": Network(lambda: monai("SegResNet", in_channels=3, out_channels=2, init_filters=8), "2 2 2"),
    "monai DynUNet": Network(
        lambda: monai(
            "DynUNet",
            in_channels=3,
            out_channels=2,
            kernel_size=[3, 3, 3],
            strides=[1, 2, 2],
            upsample_kernel_size=[2, 2],
            filters=[8, 16, 32],
        ),
        "T2- T2-",
    ),
    "timm pyramid": Network(timm_pyramid, "2 2"),
    "YOLO neck": Network(YoloNeck, "2 2"),
}
