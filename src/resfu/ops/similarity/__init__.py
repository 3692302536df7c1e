"""Similarity scores: paired central difference convolution, its ablations, and the normalisation they need."""

from resfu.ops.similarity.api import (
    SIMILARITIES,
    Compressor,
    inner_product_scores,
    neighbour_convolution,
    similarity_scores,
    upsampled_group_norm,
)
from resfu.ops.similarity.dilated import dilated_differences, without_outside

__all__ = [
    "SIMILARITIES",
    "Compressor",
    "dilated_differences",
    "inner_product_scores",
    "neighbour_convolution",
    "similarity_scores",
    "upsampled_group_norm",
    "without_outside",
]
