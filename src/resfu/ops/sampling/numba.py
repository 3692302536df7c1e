"""Bilinear values at positions of their own by compiled kernels, in fp32 on the CPU.

The kernels read the channels of a pixel together: the four neighbours of a position are then four runs of numbers, and
their shares are computed once for all channels of a group.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.compiled.threads import flat, past_the_cache, run, scratch
from resfu.ops.compiled.tile import LANES
from resfu.ops.layout import memory_format
from resfu.ops.sampling import numba_kernels as kernels
from resfu.ops.sampling import operators


def takes(x: Tensor, columns: Tensor) -> bool:
    """Whether the kernels take these: rows of a vector at least, and something in them."""
    return columns.shape[-1] >= LANES and x.numel() > 0 and columns.numel() > 0


def sample(x: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """See `resfu.ops.sampling.sample`, which it is for tensors that `takes`."""
    out = _Sample.apply(x, columns, rows)
    assert isinstance(out, Tensor)
    return out


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(x, columns, rows)
        low, count = _together(x, columns.shape[1])
        (B, C), layout = x.shape[:2], memory_format(x)
        (G, H, W), planar = columns.shape[1:], layout == torch.contiguous_format
        out = torch.empty((B, C, H, W), dtype=x.dtype, device=x.device, memory_format=layout)
        size, past = count * LANES + LANES * LANES, planar and past_the_cache(out) == 1
        target = flat(out if planar else out.permute(0, 2, 3, 1))
        given = (*low.shape[1:3], flat(columns), flat(rows), G, H, W, C // G, count)
        run(kernels.sample, B * G * H, flat(low), *given, target, planar, past, scratch(size), size)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, columns, rows = ctx.saved_tensors
        if torch.is_grad_enabled():  # for derivatives of the derivatives
            again = [t.view_as(t) for t in (x, columns, rows)]  # derivatives stop here
            wanted = [t for t, needed in zip(again, ctx.needs_input_grad, strict=True) if needed]
            found = iter(torch.autograd.grad(operators.sample(*again), wanted, grads[0], create_graph=True))
            return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)
        G, H, W = columns.shape[1:]
        low, count = _together(x, G)
        d_low = torch.zeros_like(low)
        d_columns, d_rows = (t.new_empty(t.shape) for t in (columns, rows))  # contiguous: `flat` of others is a copy
        size = (count + LANES) * LANES
        given = (*low.shape[1:3], flat(columns), flat(rows), G, H, W, x.shape[1] // G, count)
        found = flat(d_low), flat(d_columns), flat(d_rows)
        run(kernels.gradients, len(x) * G, flat(low), *given, flat(grads[0].contiguous()), *found, scratch(size), size)
        d_x = d_low.unflatten(3, (G, count))[..., : x.shape[1] // G].flatten(3).permute(0, 3, 1, 2)
        return d_x.contiguous(memory_format=memory_format(x)), d_columns, d_rows


def _together(x: Tensor, groups: int) -> tuple[Tensor, int]:
    """[B, h, w, G N]: the channels of a pixel, each group's padded to whole vectors; and N."""
    channels = x.shape[1] // groups
    count = -(-channels // LANES) * LANES
    low = x.detach().permute(0, 2, 3, 1)
    if count > channels:
        low = F.pad(low.unflatten(3, (groups, -1)), (0, count - channels)).flatten(3)
    return low.contiguous(), count
