"""Bilinear values at positions of their own."""

from resfu.ops.sampling.api import sample

__all__ = ["sample"]
