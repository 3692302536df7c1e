"""Attention of every pixel to a window of a low-resolution map."""

from resfu.ops.attention.neighbourhood import neighbourhood_attention
from resfu.ops.attention.windowed import windowed_attention

__all__ = ["neighbourhood_attention", "windowed_attention"]
