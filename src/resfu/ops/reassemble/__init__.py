"""Reassembly: the weighted sum over a K x K neighbourhood."""

from resfu.ops.reassemble.api import correlate, reassemble, which_backend

__all__ = ["correlate", "reassemble", "which_backend"]
