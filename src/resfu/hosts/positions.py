"""Resampling of transformers' position embeddings to grids of another size."""

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from resfu.ops.bicubic import antialiased_bicubic
from resfu.ops.compiling import in_torch_compile
from resfu.ops.portable import is_portable


def resampled_positions(
    embedding: Tensor, size: tuple[int, int], old_size: tuple[int, int], prefix: int, antialias: bool = True
) -> Tensor:
    """Resample a position embedding bicubically, as timm does.

    Args:
        embedding: [1, prefix + h w, C].
        size: (H, W) of the new grid.
        old_size: (h, w).
        prefix: number of tokens before those of the grid; these are not changed.
        antialias: whether to apply antialiasing if the grid gets smaller.

    Returns:
        [1, prefix + H W, C].
    """
    # Other runtimes lack antialiasing, and torch.compile cannot differentiate it at dynamic sizes (seen with 2.14).
    if not (antialias and (is_portable() or in_torch_compile())):
        return resample_abs_pos_embed(
            embedding, list(size), list(old_size), num_prefix_tokens=prefix, antialias=antialias
        )
    positions = embedding[:, prefix:].mT.unflatten(2, old_size).float()
    resampled = antialiased_bicubic(positions, size).flatten(2).mT.to(embedding.dtype)
    return torch.cat([embedding[:, :prefix], resampled], 1) if prefix else resampled
