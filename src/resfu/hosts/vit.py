"""The plain vision transformers ViT-S and ViT-L as feature encoders, built by timm."""

import math
import os
from typing import NamedTuple

import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from resfu.hosts.positions import resampled_positions
from resfu.hosts.timm_weights import load_timm_weights, timm_weights
from resfu.upsamplers.options import check_flags

PATCH = 16
# Images x in 0..255 are normalised to (x - 127.5) / 127.5.
MEAN = STD = (0.5, 0.5, 0.5)


class _Variant(NamedTuple):
    channels: int
    depth: int
    heads: int
    image_size: int
    published: str


VARIANTS = {
    "s": _Variant(384, 12, 6, 512, "vit_small_patch16_384.augreg_in21k_ft_in1k"),
    "l": _Variant(1024, 24, 16, 640, "vit_large_patch16_384.augreg_in21k_ft_in1k"),
}


class PlainViT(nn.Module):
    """Vision transformer with patches of 16 x 16 (Dosovitskiy et al., ICLR 2021), including its final normalisation.

    Args:
        variant: "s" or "l".
        image_size: side of the images for which the position embedding is made; for other sizes it is resampled.
            Default: the variant's crop size in the Segmenter of arXiv 2407.02283, 512 or 640.
        depth: number of blocks. Default: the variant's.
        drop_path_rate: rate of stochastic depth in the last block; it grows linearly from 0 over the blocks.
        antialias_positions: whether the position embedding is resampled (bicubically) with antialiasing, as in timm, or
            without, as in mmsegmentation and the Segmenter authors' code.

    Raises:
        ValueError: for an unknown variant, or an image size that the patches do not divide.
    """

    def __init__(
        self,
        variant: str,
        image_size: int | None = None,
        depth: int | None = None,
        drop_path_rate: float = 0.1,
        antialias_positions: bool = True,
    ) -> None:
        super().__init__()
        check_flags(antialias_positions=antialias_positions)
        self.antialias_positions = antialias_positions
        if variant not in VARIANTS:
            raise ValueError(f"unknown ViT variant {variant!r}; choose one of {', '.join(VARIANTS)}.")
        width, blocks, heads, size, self.published = VARIANTS[variant]
        size = size if image_size is None else image_size
        if size < PATCH or size % PATCH:
            raise ValueError(f"image_size must be a multiple of {PATCH}, got {size}.")
        self.channels = (width,)
        self.vit = VisionTransformer(
            img_size=size,
            patch_size=PATCH,
            embed_dim=width,
            depth=blocks if depth is None else depth,
            num_heads=heads,
            num_classes=0,
            global_pool="",
            dynamic_img_size=True,
            drop_path_rate=drop_path_rate,
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W], H and W multiples of 16 -> [B, C, H / 16, W / 16]: the patches, without the class token."""
        vit = self.vit
        assert vit.cls_token is not None
        assert vit.pos_embed is not None
        patches = vit.patch_embed(images)  # [B, h, w, C]
        B, h, w, _ = patches.shape
        tokens = torch.cat([vit.cls_token.expand(B, -1, -1), patches.flatten(1, 2)], 1)
        tokens = vit.pos_drop(tokens + self._resampled(vit.pos_embed, (h, w), vit.patch_embed.grid_size))
        tokens = vit.norm(vit.blocks(tokens))[:, 1:]
        return [tokens.transpose(1, 2).unflatten(2, (h, w))]

    def load(self, source: bool | str | os.PathLike[str]) -> None:
        """Load ImageNet weights; a position embedding of another size is resampled bicubically.

        Args:
            source: True fetches `timm/vit_<variant>_patch16_384.augreg_in21k_ft_in1k` (or takes it from the cache); a
                path reads a file or folder with timm's names, with or without the classifier. False does nothing.

        Raises:
            ValueError: when they cannot be found or do not fit; the message names the missing or unexpected ones.
        """
        if source is False:
            return
        weights = timm_weights(source, self.published)
        if "pos_embed" in weights:
            weights["pos_embed"] = self._on_own_grid(weights["pos_embed"])
        load_timm_weights(self.vit, weights, classifier="head", where=self.published if source is True else source)

    def _on_own_grid(self, embedding: Tensor) -> Tensor:
        h, w = self.vit.patch_embed.grid_size
        side = math.isqrt(max(embedding.shape[1] - 1, 0)) if embedding.dim() == 3 else 0
        if embedding.dim() != 3 or side == 0 or side * side + 1 != embedding.shape[1]:
            return embedding  # nothing to resample; the error is raised later, with those of the other weights
        return self._resampled(embedding, (h, w), (side, side))

    def _resampled(self, embedding: Tensor, size: tuple[int, int], old_size: tuple[int, int]) -> Tensor:
        return resampled_positions(embedding, size, old_size, prefix=1, antialias=self.antialias_positions)
