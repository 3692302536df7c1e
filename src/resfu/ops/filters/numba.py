"""The guided filter with stride 1 by compiled kernels, in fp32 on the CPU: a channel at a time, nothing kept for backward."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from resfu.ops.compiled.threads import run, scratch
from resfu.ops.filters import numba_kernels as kernels
from resfu.ops.filters import operators
from resfu.ops.grid import lr_cell


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    """See `api.guided_filter`, of fp32 maps. Differentiable."""
    return _GuidedFilter.apply(guide, x, radius, eps)  # pyright: ignore[reportReturnType]


class _GuidedFilter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
        ctx.save_for_backward(guide, x)
        ctx.radius, ctx.eps = radius, eps
        guide, x = guide.contiguous(), x.contiguous()
        out = torch.empty_like(guide)
        _over_planes(kernels.guided_filter, (guide, x), (out,), radius, eps)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        guide, x = ctx.saved_tensors
        if torch.is_grad_enabled():  # for derivatives of the derivatives
            with torch.enable_grad():
                guide, x = (t.view_as(t) for t in ctx.saved_tensors)  # derivatives stop here
                out = operators.composition(guide, x, ctx.radius, ctx.eps, 1)
            wanted = [t for t, needed in zip((guide, x), ctx.needs_input_grad[:2], strict=True) if needed]
            found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
            return *(next(found) if needed else None for needed in ctx.needs_input_grad[:2]), None, None
        guide, x = guide.contiguous(), x.contiguous()
        results = torch.empty_like(guide), torch.empty_like(x)
        _over_planes(kernels.guided_filter_gradients, (grad.contiguous(), guide, x), results, ctx.radius, ctx.eps)
        return *results, None, None


def _over_planes(
    kernel: Any, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], radius: int, eps: float
) -> None:
    """Run a kernel over all planes of contiguous maps; the last input is x, the one before it the guide."""
    (B, C, H, W), (h, w) = inputs[-2].shape, inputs[-1].shape[-2:]
    tables = tuple(t.numpy() for t in _tables(H, W, h, w, radius))
    size = kernels.PLANES * H * W + kernels.LINES * (max(W, w) + 2 * radius + 2)
    space, wide = scratch(size), torch.empty(W * torch.get_num_threads(), dtype=torch.float64, device="cpu").numpy()
    arrays = [t.detach().view(-1).numpy() for t in inputs]
    results = [t.view(-1).numpy() for t in outputs]

    def task(first: int, last: int, thread: int) -> None:
        kernel(
            first, last, *arrays, h, w, *tables, H, W, radius, _fp32(eps), *results, space, thread * size, wide,
            thread * W,
        )  # fmt: skip

    run(task, B * C)


def _fp32(value: float) -> Any:
    return torch.tensor(value, dtype=torch.float32, device="cpu").numpy()[()]


@lru_cache(maxsize=64)
def _tables(H: int, W: int, h: int, w: int, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the columns and then the rows: the pixel of x above each, its way to the next, 1 / pixels in a window's line."""
    above, between, share = [], [], []
    for P, p in ((W, w), (H, h)):
        cell, fraction = lr_cell(P, p, "cpu", torch.float32)
        above.append(cell.clamp(min=0))
        between.append(fraction.masked_fill(cell < 0, 0.0))
        position = torch.arange(P, device="cpu")
        counts = (position + radius).clamp(max=P - 1) - (position - radius).clamp(min=0) + 1
        share.append(1 / counts.float())
    return torch.cat(above), torch.cat(between), torch.cat(share)
