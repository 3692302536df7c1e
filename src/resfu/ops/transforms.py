"""The transforms of torch.func: custom operators have no rules for those that differentiate.

Without one PyTorch takes a forward-mode derivative for 0, and stops elsewhere with an error about its own internals.
"""

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor, is_gradtrackingtensor
from torch.autograd.forward_ad import unpack_dual


def refuse_derivatives(operation: str, *tensors: Tensor) -> None:
    """Refuse the dual numbers of forward-mode differentiation, and the tensors of torch.func.grad and its like.

    Args:
        operation: name of the function that was called.
        tensors: what a custom operator is about to be given.

    Raises:
        ValueError: where one of them is being differentiated so.
    """
    if any(unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise ValueError(
            f"{operation} has no forward-mode derivative (torch.func.jvp, jacfwd, dual numbers). Use reverse mode, "
            "torch.autograd.functional.jvp, which makes the same product of two reverse passes, or, of a function that "
            "takes one, backend='reference'."
        )
    if not torch.compiler.is_compiling() and any(map(_tracked, tensors)):
        raise ValueError(
            f"{operation} can't be differentiated by torch.func (grad, vjp, jacrev, hessian). Use torch.autograd "
            "(grad, backward, functional.jacobian) or, of a function that takes one, backend='reference'."
        )


def is_batched(x: Tensor) -> bool:
    """Whether torch.vmap hides a dimension of it."""
    return not torch.compiler.is_compiling() and is_batchedtensor(x)


def add_into(x: Tensor, y: Tensor) -> Tensor:
    """x + y in the memory of x, except where torch.vmap hides a dimension of y, which x may lack."""
    return x + y if is_batched(y) else x.add_(y)


def _tracked(x: Tensor) -> bool:
    while is_functorch_wrapped_tensor(x):
        if is_gradtrackingtensor(x):
            return True
        x = get_unwrapped(x)
    return False
