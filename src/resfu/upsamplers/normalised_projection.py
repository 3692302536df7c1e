"""GroupNorm and a 1 x 1 convolution as one autograd function, which keeps only its input map for the backward pass."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

FAR = 8.0  # |mean| / deviation, up to which subtracting large sums costs less than one digit


def normalised_projection(
    x: Float[Tensor, "B C H W"], norm: nn.GroupNorm, weight: Float[Tensor, "D C"], bias: Float[Tensor, "D"]
) -> Float[Tensor, "B D H W"]:
    """Compute weight norm(x) + bias, contiguous."""
    return _Projection.apply(x, norm.weight, norm.bias, weight, bias, norm.num_groups, norm.eps)  # pyright: ignore[reportReturnType]


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        from resfu.ops.layers.projection import normalised_product

        x, gamma, beta, weight, bias, groups, eps = given
        y, mean, inverse = normalised_product(x.contiguous(), groups, (gamma, beta), eps, weight, bias)
        ctx.save_for_backward(x, gamma, beta, weight, bias, mean, inverse)
        ctx.groups, ctx.eps = groups, eps
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        *saved, mean, inverse = ctx.saved_tensors
        is_far = (mean.abs() * inverse > FAR).any()
        if torch.is_grad_enabled() or is_far or not saved[0].is_contiguous():
            return *_by_operators(ctx, saved, grads[0]), None, None
        x, gamma, beta, weight, _ = saved
        return *_gradients(x, gamma, beta, weight, mean, inverse, grads[0].flatten(2)), None, None


def _gradients(
    x: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, grad: Tensor
) -> tuple[Tensor, ...]:
    """Gradients with respect to x, gamma, beta, weight and bias, computed without the normalised map.

    The normalised map is linear in x, so sums over it follow from sums over x.

    Args:
        x: [B, C, H, W].
        gamma: [C].
        beta: [C].
        weight: [D, C].
        mean: of GroupNorm's groups, [B, groups].
        inverse: 1 / standard deviation of the groups, [B, groups].
        grad: gradient of the output, [B, D, H W].
    """
    size, flat = mean.shape[1], x.flatten(2)
    mean, inverse = (t.repeat_interleave(len(gamma) // size, 1) for t in (mean, inverse))  # [B, C]
    whole = grad.sum(2)  # [B, D]
    together = (torch.bmm(grad, flat.mT) - whole[:, :, None] * mean[:, None]) * inverse[:, None]  # grad x norm(x)
    plain, times = whole @ weight, (weight * together).sum(1)  # sums of d norm(x), and of d norm(x) norm(x), [B, C]
    d_weight = (together * gamma + whole[:, :, None] * beta).sum(0)

    def group_mean(t: Tensor) -> Tensor:
        return t.unflatten(1, (size, -1)).mean(2, keepdim=True).expand(-1, -1, len(gamma) // size).flatten(1)

    slope = -inverse * inverse * group_mean(gamma * times) / flat.shape[2]
    shift = -inverse * group_mean(gamma * plain) / flat.shape[2] - slope * mean
    matrices = (weight * gamma).T * inverse[:, :, None]  # [B, C, D]
    d_x = torch.baddbmm(shift[:, :, None], matrices, grad).addcmul_(flat, slope[:, :, None]).view_as(x)
    return d_x, times.sum(0), plain.sum(0), d_weight, whole.sum(0)


def _by_operators(ctx: Any, saved: list[Tensor], grad: Tensor) -> tuple[Tensor | None, ...]:
    """The same gradients by PyTorch's operators: for means far from 0, other memory formats, and double backward."""
    again = torch.is_grad_enabled()
    *normed, weight, _ = saved
    needs = ctx.needs_input_grad
    with torch.enable_grad():
        normed = [
            t.view_as(t) if again else t.detach().requires_grad_(need)
            for t, need in zip(normed, needs[:3], strict=True)
        ]
        x, gamma, beta = normed
        y = torch.group_norm(x, ctx.groups, gamma, beta, ctx.eps)
    grad = grad.flatten(2)  # [B, D, H W]
    d_y = (weight.T @ grad).view_as(y)
    d_weight = (grad @ y.flatten(2).mT).sum(0) if needs[3] else None
    d_bias = grad.sum((0, 2)) if needs[4] else None
    wanted = [t for t, need in zip(normed, needs[:3], strict=True) if need]
    found = iter(torch.autograd.grad(y, wanted, d_y, create_graph=again) if wanted else ())
    return *(next(found) if need else None for need in needs[:3]), d_weight, d_bias
