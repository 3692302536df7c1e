"""Compiled kernels as PyTorch operators, which torch.compile calls as a single node.

Without them, torch.compile would trace dozens of PyTorch operators, each with formulas for its sizes. With them, a
compiled graph runs the same kernels as an uncompiled model.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from resfu.ops.backends import numba_obstacle
from resfu.ops.compiling import in_torch_compile
from resfu.ops.layout import memory_format


def kernels_in_graph(features: Tensor, backend: str) -> bool:
    """Whether torch.compile traces the call and Numba's kernels may be part of its graph."""
    return in_torch_compile() and backend in ("auto", "numba") and numba_obstacle(features) is None


def graph_operator(
    name: str, arguments: str, run: Callable[..., Tensor], shape: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    """Register the operators `resfu::name` and `resfu::name_backward`; the second runs the forward pass again.

    Args:
        name: of the operator.
        arguments: of the operator's schema, such as "Tensor x, int radius".
        run: the implementation: takes these arguments and returns a contiguous map that autograd can differentiate.
        shape: takes the same arguments and returns an empty map of the result's shape.

    Returns:
        The operator.
    """

    def backward(grad: Tensor, *given: Any) -> list[Tensor]:
        *values, needs = given
        with torch.enable_grad():
            again = [
                value.detach().requires_grad_(need) if isinstance(value, Tensor) else value
                for value, need in zip(values, needs, strict=True)
            ]
            wanted = [value for value, need in zip(again, needs, strict=True) if need]
            found = torch.autograd.grad(run(*again), wanted, grad)
        return [g.contiguous(memory_format=memory_format(value)) for g, value in zip(found, wanted, strict=True)]

    def backward_shape(grad: Tensor, *given: Any) -> list[Tensor]:
        *values, needs = given
        wanted = [value for value, need in zip(values, needs, strict=True) if need]
        return [torch.empty_like(value, memory_format=memory_format(value)) for value in wanted]

    def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
        ctx.others = [None if isinstance(value, Tensor) else (value,) for value in inputs]

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors, needs = iter(ctx.saved_tensors), list(ctx.needs_input_grad)
        values = [next(tensors) if other is None else other[0] for other in ctx.others]
        found = iter(getattr(torch.ops.resfu, f"{name}_backward")(grad, *values, needs))
        return tuple(next(found) if need else None for need in needs)

    operator = torch.library.custom_op(f"resfu::{name}", run, mutates_args=(), schema=f"({arguments}) -> Tensor")
    operator.register_fake(shape)
    operator.register_autograd(differentiate, setup_context=save)
    # Not a custom_op, because these switch autograd off inside.
    schema = f"(Tensor grad, {arguments}, bool[] needs) -> Tensor[]"
    torch.library.define(f"resfu::{name}_backward", schema, tags=torch.Tag.pt2_compliant_tag)
    torch.library.impl(f"resfu::{name}_backward", "CompositeExplicitAutograd")(backward)
    torch.library.register_fake(f"resfu::{name}_backward")(backward_shape)
    return operator
