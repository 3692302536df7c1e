"""The operations that the upsamplers are built from, as functions of tensors."""

from resfu.ops.backends import which_backend
from resfu.ops.filters import box_filter, gaussian_filter, guided_filter
from resfu.ops.reassembly import correlate, reassemble, window_softmax
from resfu.ops.similarity import Compressor, inner_product_scores, similarity_scores, upsampled_group_norm

__all__ = [
    "Compressor",
    "box_filter",
    "correlate",
    "gaussian_filter",
    "guided_filter",
    "inner_product_scores",
    "reassemble",
    "similarity_scores",
    "upsampled_group_norm",
    "which_backend",
    "window_softmax",
]
