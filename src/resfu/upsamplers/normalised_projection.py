"""GroupNorm and a 1 x 1 convolution that keep the map before them for backward, and none between them."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def normalised_projection(
    x: Float[Tensor, "B C H W"], norm: nn.GroupNorm, weight: Float[Tensor, "D C"], bias: Float[Tensor, "D"]
) -> Float[Tensor, "B D H W"]:
    """weight norm(x) + bias, contiguous."""
    return _Projection.apply(x, norm.weight, norm.bias, weight, bias, norm.num_groups, norm.eps)  # pyright: ignore[reportReturnType]


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        x, gamma, beta, weight, bias, groups, eps = given
        ctx.save_for_backward(x, gamma, beta, weight, bias)
        ctx.groups, ctx.eps = groups, eps
        return _product(torch.group_norm(x, groups, gamma, beta, eps), weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        again = torch.is_grad_enabled()  # is there to be a second derivative?
        *normed, weight, _ = ctx.saved_tensors
        needs = ctx.needs_input_grad
        with torch.enable_grad():
            normed = [
                t.view_as(t) if again else t.detach().requires_grad_(need)
                for t, need in zip(normed, needs[:3], strict=True)
            ]
            x, gamma, beta = normed
            y = torch.group_norm(x, ctx.groups, gamma, beta, ctx.eps)
        grad = grads[0].flatten(2)  # [B, D, H W]
        d_y = (weight.T @ grad).view_as(y)
        d_weight = (grad @ y.flatten(2).mT).sum(0) if needs[3] else None
        d_bias = grad.sum((0, 2)) if needs[4] else None
        wanted = [t for t, need in zip(normed, needs[:3], strict=True) if need]
        found = iter(torch.autograd.grad(y, wanted, d_y, create_graph=again) if wanted else ())
        return *(next(found) if need else None for need in needs[:3]), d_weight, d_bias, None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias[:, None], weight.expand(len(x), -1, -1), x.flatten(2)).unflatten(2, x.shape[2:])
