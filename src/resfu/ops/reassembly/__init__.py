"""Reassembly: the weighted sum over a K x K neighbourhood."""

from resfu.ops.reassembly.api import correlate, reassemble, which_backend
from resfu.ops.reassembly.softmax import window_softmax

__all__ = ["correlate", "reassemble", "which_backend", "window_softmax"]
