"""Mathematics on tensors: torch only."""

from resfu.ops.reassemble import reassemble, which_backend

__all__ = ["reassemble", "which_backend"]
