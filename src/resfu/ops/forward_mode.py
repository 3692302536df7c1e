"""Custom operators have no forward-mode derivatives, and PyTorch takes those of an operator without for 0."""

from torch import Tensor
from torch.autograd.forward_ad import unpack_dual


def refuse_tangents(operation: str, *tensors: Tensor) -> None:
    """Refuse the dual numbers of forward-mode differentiation.

    Args:
        operation: name of the function that was called.
        tensors: what a custom operator is about to be given.

    Raises:
        ValueError: where one of them has a tangent.
    """
    if any(unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise ValueError(
            f"{operation} has no forward-mode derivative (torch.func.jvp, jacfwd, dual numbers). Use reverse mode, or "
            "torch.autograd.functional.jvp, which makes the same product of two reverse passes."
        )
