"""The guided filter with stride 1 by compiled kernels, in fp32 on the CPU: channel by channel, nothing else kept."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.compiled.threads import run, scratch
from resfu.ops.compiled.tile import LANES
from resfu.ops.filters import numba_kernels as kernels
from resfu.ops.filters import operators
from resfu.ops.grid import lr_cell
from resfu.ops.kept import kept


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    """See `api.guided_filter`, of fp32 maps. Differentiable."""
    return _GuidedFilter.apply(guide, x, radius, eps)  # pyright: ignore[reportReturnType]


class _GuidedFilter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
        ctx.save_for_backward(guide, x)
        ctx.radius, ctx.eps = radius, eps
        guide, x = guide.contiguous(), _enlarged(x, guide)
        out = torch.empty_like(guide)
        _over_planes(kernels.guided_filter, (guide, x), (), (out,), radius, eps)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        guide, x = ctx.saved_tensors
        if torch.is_grad_enabled():  # for derivatives of the derivatives
            with torch.enable_grad():
                guide, x = (t.view_as(t) for t in (guide, x))  # derivatives stop here
                out = operators.composition(guide, x, ctx.radius, ctx.eps, 1)
            wanted = [t for t, needed in zip((guide, x), ctx.needs_input_grad[:2], strict=True) if needed]
            found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
            return *(next(found) if needed else None for needed in ctx.needs_input_grad[:2]), None, None
        guide, low = guide.contiguous(), (x.shape[2], x.shape[3])
        d_guide, d_x = torch.empty_like(guide), guide.new_empty(x.shape)
        places = [t.numpy() for t in _between(*guide.shape[2:], *low)]
        maps = guide, x.contiguous(), grad.contiguous()
        _over_planes(kernels.guided_filter_gradients, maps, (*places, *low), (d_guide, d_x), ctx.radius, ctx.eps)
        return d_guide, d_x, None, None


def _enlarged(x: Tensor, guide: Tensor) -> Tensor:
    """x of the guide's size. Backward makes it once more, row by row, instead of keeping it."""
    if x.shape[-2:] == guide.shape[-2:]:
        return x.contiguous()
    return F.interpolate(x, size=guide.shape[-2:], mode="bilinear", align_corners=False).contiguous()


def _over_planes(
    kernel: Any,
    inputs: tuple[Tensor, ...],
    others: tuple[Any, ...],
    outputs: tuple[Tensor, ...],
    radius: int,
    eps: float,
) -> None:
    """Run a kernel over all planes of contiguous maps, the first of which has the size of the result."""
    B, C, H, W = inputs[0].shape
    radius = min(radius, max(H, W))  # which sees all of the image
    P, share = -(-W // LANES) * LANES, _share(H, W, radius)
    size, line = kernels.room(H, P, radius)
    space = scratch(size)
    arrays = [t.detach().view(-1).numpy() for t in inputs]
    results = [t.view(-1).numpy() for t in outputs]

    run(kernel, B * C, *arrays, share, H, W, P, radius, _fp32(eps), *others, *results, space, size, line)


def _fp32(value: float) -> Any:
    return torch.tensor(value, dtype=torch.float32, device="cpu").numpy()[()]


@kept()
def _share(H: int, W: int, radius: int) -> Any:
    """[P + H]: 1 / (pixels of a window in its row) of every column, zeros up to whole vectors, then of every row."""
    share = []
    for length in (W, H):
        position = torch.arange(length, device="cpu")
        counts = (position + radius).clamp(max=length - 1) - (position - radius).clamp(min=0) + 1
        share.append(1 / counts.float())
    return torch.cat([F.pad(share[0], (0, -W % LANES)), share[1]]).numpy()


@kept()
def _between(H: int, W: int, h: int, w: int) -> tuple[Tensor, Tensor]:
    """For each row, then each column: the low-resolution one before it, and how far it is from that to the next."""
    cells, fractions = zip(*(lr_cell(P, p, "cpu", torch.float32) for P, p in ((H, h), (W, w))), strict=True)
    cell, fraction = torch.cat(cells), torch.cat(fractions)
    return cell.clamp(min=0), fraction.where(cell >= 0, 0)
