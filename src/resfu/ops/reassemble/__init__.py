"""Reassembly: the weighted sum over a K x K neighbourhood."""

from resfu.ops.reassemble.api import reassemble, which_backend

__all__ = ["reassemble", "which_backend"]
