"""Similarity scores: paired central difference convolution, its ablations, and the normalisation they need."""

from resfu.ops.similarity.api import (
    SIMILARITIES,
    Compressor,
    inner_product_scores,
    neighbour_convolution,
    similarity_scores,
)
from resfu.ops.similarity.normalization import upsampled_group_norm

__all__ = [
    "SIMILARITIES",
    "Compressor",
    "inner_product_scores",
    "neighbour_convolution",
    "similarity_scores",
    "upsampled_group_norm",
]
