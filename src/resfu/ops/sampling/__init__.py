"""Bilinear sampling of a map at a position given for each output pixel."""

from resfu.ops.sampling.api import sample

__all__ = ["sample"]
