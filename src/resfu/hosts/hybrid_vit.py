"""R50+ViT-B/16, a hybrid of a ResNet and a vision transformer, as a feature encoder, built by timm."""

import math
import os
from functools import partial
from typing import Literal, get_args

import torch.nn.functional as F
from timm.layers import GroupNormAct, HybridEmbed, StdConv2d, StdConv2dSame
from timm.models import VisionTransformer
from timm.models.resnetv2 import Bottleneck, ResNetV2
from torch import Tensor, nn

from resfu.hosts.positions import resampled_positions
from resfu.hosts.same_padding import take_same_layers
from resfu.hosts.timm_weights import load_timm_weights, timm_weights
from resfu.ops.compiling import in_torch_compile
from resfu.upsamplers.options import check_choice

Form = Literal["timm", "transunet"]
STRIDE = 16
_HEAD_CHANNELS = 64
_PUBLISHED = "vit_base_r50_s16_224.orig_in21k"


class HybridViT(nn.Module):
    """ResNet-50 without its last stage, followed by a transformer whose patches are the pixels of the stride-16 map.

    Source: Dosovitskiy et al., ICLR 2021, without the class token, as in TransUNet (arXiv 2102.04306). Layers and names
    are those of timm's `vit_base_r50_s16_224`: convolutions with standardised weights, and GroupNorm.

    The form "timm" is the network with which the ImageNet weights were trained. The form "transunet" is that of
    TransUNet's published code, which uses the same weights but differs in five details. Strided convolutions are padded
    on all sides, not as in TensorFlow ("same", with the odd pixel at the end). The pooling is not padded, so the map at
    stride 4 lacks its last row and column; the decoder gets zeros there. The GroupNorm of a shortcut has a group for
    every channel, not 32 groups. The other GroupNorms have an epsilon of 1e-6, not 1e-5. The epsilon of the
    standardised weights is 1e-5, not 1e-8.

    Args:
        layers: numbers of residual blocks at strides 4, 8 and 16.
        width: width of the transformer, a multiple of 64; every 64 channels are a head.
        depth: number of transformer blocks.
        image_size: side of the images for which the position embedding is made; for other sizes it is resampled.
        dropout: dropout rate after the position embedding and in the transformer's MLPs; attention has none.
        form: "timm" or "transunet", see above.

    Raises:
        ValueError: for a width that is not a multiple of 64, an image size that is not a multiple of 16, or another
            form.
    """

    def __init__(
        self,
        layers: tuple[int, int, int] = (3, 4, 9),
        width: int = 768,
        depth: int = 12,
        image_size: int = 224,
        dropout: float = 0.1,
        form: Form = "timm",
    ) -> None:
        super().__init__()
        check_choice("form", form, get_args(Form))
        for name, value, divisor in (("width", width, _HEAD_CHANNELS), ("image_size", image_size, STRIDE)):
            if value < divisor or value % divisor:
                raise ValueError(f"{name} must be a multiple of {divisor}, got {value}.")
        self.channels = (64, 256, 512, width)
        resnet = _timm_resnet(layers) if form == "timm" else _transunet_resnet(layers)
        self.vit = VisionTransformer(
            img_size=image_size,
            patch_size=1,
            embed_dim=width,
            depth=depth,
            num_heads=width // _HEAD_CHANNELS,
            num_classes=0,
            global_pool="",
            class_token=False,
            embed_layer=partial(HybridEmbed, backbone=resnet),  # pyright: ignore[reportArgumentType]
            pos_drop_rate=dropout,
            proj_drop_rate=dropout,
        )
        take_same_layers(self.vit)
        for name, module in self.vit.named_modules():
            if name.endswith("attn.proj_drop"):
                assert isinstance(module, nn.Dropout)
                module.p = 0.0  # timm has one rate for attention and MLP

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> the ResNet's maps at strides 2, 4 and 8 and the transformer's at 16, sizes rounded up."""
        embed = self.vit.patch_embed
        convolution, norm, pool = embed.backbone.stem
        features = [norm(convolution(images))]
        x = pool(features[0])
        for stage in embed.backbone.stages:
            x = stage(x)
            features.append(x)
        features[1] = _filled(features[1], (-(-images.shape[-2] // 4), -(-images.shape[-1] // 4)))
        patches = embed.proj(features.pop())
        h, w = patches.shape[-2:]
        assert self.vit.pos_embed is not None
        position = resampled_positions(self.vit.pos_embed, (h, w), embed.grid_size, prefix=0)
        tokens = self.vit.pos_drop(patches.flatten(2).transpose(1, 2) + position)
        tokens = self.vit.norm(self.vit.blocks(tokens))
        deepest = tokens.transpose(1, 2).unflatten(2, (h, w))
        # A copy: Inductor cannot order the symbolic strides of a view that it keeps for backward (seen with 2.14).
        return [*features, deepest.contiguous() if in_torch_compile() else deepest]

    def load(self, source: bool | str | os.PathLike[str]) -> None:
        """Load ImageNet weights; the class token is dropped, and a position embedding of another size is resampled.

        Args:
            source: True fetches `timm/vit_base_r50_s16_224.orig_in21k` (or takes it from the cache); a path reads a
                file or folder with timm's names, with or without the classifier. False does nothing.

        Raises:
            ValueError: when they cannot be found or do not fit; the message names the missing or unexpected ones.
        """
        if source is False:
            return
        weights = timm_weights(source, _PUBLISHED)
        # "pre_logits" is the layer before the classifier in old files, which timm no longer has.
        weights = {key: value for key, value in weights.items() if not key.startswith(("cls_token", "pre_logits."))}
        if "pos_embed" in weights:
            weights["pos_embed"] = self._on_own_grid(weights["pos_embed"])
        load_timm_weights(self.vit, weights, classifier="head", where=_PUBLISHED if source is True else source)

    def _on_own_grid(self, embedding: Tensor) -> Tensor:
        if embedding.dim() != 3:
            return embedding  # the error for it is raised later, with those of the other weights
        side = math.isqrt(embedding.shape[1])
        patches = embedding[:, embedding.shape[1] - side**2 :]  # the class token is the first
        if side == 0 or embedding.shape[1] - side**2 > 1:
            return embedding
        h, w = self.vit.patch_embed.grid_size
        return resampled_positions(patches, (h, w), (side, side), prefix=0)


def _timm_resnet(layers: tuple[int, int, int]) -> ResNetV2:
    convolution = partial(StdConv2dSame, eps=1e-8)
    return ResNetV2(list(layers), num_classes=0, global_pool="", preact=False, stem_type="same", conv_layer=convolution)


def _transunet_resnet(layers: tuple[int, int, int]) -> ResNetV2:
    convolution, norm = partial(StdConv2d, eps=1e-5), partial(GroupNormAct, num_groups=32, eps=1e-6)
    resnet = ResNetV2(
        list(layers), num_classes=0, global_pool="", preact=False, conv_layer=convolution, norm_layer=norm
    )
    resnet.stem.pool = nn.MaxPool2d(3, stride=2)
    for block in resnet.modules():
        if isinstance(block, Bottleneck) and block.downsample is not None:
            width = block.downsample.conv.out_channels
            block.downsample.norm = GroupNormAct(width, num_groups=width, eps=1e-5, apply_act=False)
    return resnet


def _filled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad a map with zeros at the bottom and right up to a size."""
    bottom, right = size[0] - x.shape[-2], size[1] - x.shape[-1]
    return F.pad(x, (0, right, 0, bottom)) if bottom or right else x
