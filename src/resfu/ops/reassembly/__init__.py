"""Reassembly: the weighted sum over a K x K neighbourhood."""

from resfu.ops.reassembly.api import correlate, reassemble
from resfu.ops.reassembly.softmax import window_softmax

__all__ = ["correlate", "reassemble", "window_softmax"]
