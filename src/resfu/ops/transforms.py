"""Checks for the transforms of torch.func. Custom operators have no rules for those that differentiate.

Without a rule PyTorch silently takes a forward-mode derivative as 0, or raises an error about its own internals.
"""

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor, is_gradtrackingtensor
from torch.autograd.forward_ad import unpack_dual


def refuse_derivatives(operation: str, *tensors: Tensor) -> None:
    """Refuse tensors that forward mode, or torch.func.grad and similar transforms, are differentiating.

    Args:
        operation: name of the function that was called.
        tensors: the inputs of a custom operator.

    Raises:
        ValueError: if one of them is being differentiated in this way.
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
    """Whether x is a tensor inside torch.vmap, which hides one of its dimensions."""
    return not torch.compiler.is_compiling() and is_batchedtensor(x)


def add_into(x: Tensor, y: Tensor) -> Tensor:
    """Add y to x in place; out of place if y is inside torch.vmap, because x may lack the hidden dimension."""
    return x + y if is_batched(y) else x.add_(y)


def _tracked(x: Tensor) -> bool:
    while is_functorch_wrapped_tensor(x):
        if is_gradtrackingtensor(x):
            return True
        x = get_unwrapped(x)
    return False
