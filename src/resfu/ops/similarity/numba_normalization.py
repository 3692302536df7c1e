"""GroupNorm of an upsampled map by a compiled kernel, in fp32 on the CPU. See `normalization.py`."""

from typing import Any, no_type_check

import torch
from numba import types
from torch import Tensor

from resfu.ops.compiled.kernel import shared_kernel
from resfu.ops.compiled.memory import get, put
from resfu.ops.compiled.threads import flat, run
from resfu.ops.kept import kept
from resfu.ops.similarity import normalization


@no_type_check
@shared_kernel
def normalised(
    first, last, thread, x, D, groups, h, w, row_mean, row_square, column_mean, column_square, eps, weight, bias, out,
    line, size,
):  # fmt: skip
    """out [images, D, h, w]. A task is a group of an image.

    row_mean [h] and column_mean [w] are the column means of the axes' matrices U. row_square [h, 2] and column_square
    [w, 2] hold the diagonal of U^T U / P and what lies behind it, in fp64: a pixel lies between two others at most.
    """
    width, area, turned = D // groups, h * w, thread * size
    for task in range(first, last):
        b, g = task // groups, task % groups
        begin = (b * D + g * width) * area
        shift = 0.0
        for i in range(begin, begin + width * area):
            shift += types.float64(get(x, i))
        shift /= width * area
        mean, square = 0.0, 0.0
        for channel in range(width):
            for y in range(h):
                row = begin + channel * area + y * w
                along, here, below = 0.0, 0.0, 0.0
                for p in range(w):
                    put(line, turned + p, types.float64(get(x, row + p)) - shift)
                for p in range(w):
                    value = get(line, turned + p)
                    times = get(column_square, 2 * p) * value
                    if p + 1 < w:
                        times += get(column_square, 2 * p + 1) * get(line, turned + p + 1)
                    if p > 0:
                        times += get(column_square, 2 * p - 1) * get(line, turned + p - 1)
                    along += get(column_mean, p) * value
                    here += times * value
                    if y + 1 < h:
                        below += times * (types.float64(get(x, row + w + p)) - shift)
                mean += get(row_mean, y) * along
                square += get(row_square, 2 * y) * here + 2.0 * get(row_square, 2 * y + 1) * below
        mean, square = mean / width, square / width
        scale = 1.0 / (square - mean * mean + eps) ** 0.5
        for channel in range(width):
            slope = types.float32(scale * get(weight, g * width + channel))
            middle, height = types.float32(mean + shift), get(bias, g * width + channel)
            for i in range(begin + channel * area, begin + (channel + 1) * area):
                put(out, i, (get(x, i) - middle) * slope + height)


def upsampled_group_norm(
    x: Tensor, size: tuple[int, int], groups: int, weight: Tensor, bias: Tensor, eps: float, neighbours: str
) -> Tensor:
    """See `api.upsampled_group_norm`, of fp32 maps. Differentiable."""
    return _Normalised.apply(x, weight, bias, size, groups, eps, neighbours)  # pyright: ignore[reportReturnType]


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, size: tuple[int, int], groups: int, eps: float,
        neighbours: str,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight, bias)
        ctx.rest = size, groups, eps, neighbours
        B, D, h, w = x.shape
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        tables = (*_moments(h, size[0], neighbours), *_moments(w, size[1], neighbours))
        line = torch.empty(w * torch.get_num_threads(), dtype=torch.float64, device="cpu").numpy()
        given = D, groups, h, w, *tables, eps, flat(weight), flat(bias), flat(out), line, w
        run(normalised, B * groups, flat(x), *given)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x, weight, bias), (size, groups, eps, neighbours) = ctx.saved_tensors, ctx.rest
        if not torch.is_grad_enabled():
            return *normalization.gradients(x, size, groups, weight, eps, neighbours, grads[0]), *[None] * 4
        with torch.enable_grad():  # for derivatives of the derivatives, which stop here
            x, weight, bias = (t.view_as(t) for t in (x, weight, bias))
            out = normalization.upsampled_group_norm(x, size, groups, weight, bias, eps, neighbours)
        needs = ctx.needs_input_grad[:3]
        wanted = [t for t, needed in zip((x, weight, bias), needs, strict=True) if needed]
        found = iter(torch.autograd.grad(out, wanted, grads[0], create_graph=True))
        return *(next(found) if needed else None for needed in needs), None, None, None, None


@kept()
def _moments(p: int, P: int, neighbours: str) -> tuple[Any, Any]:
    """Of the matrix that upsamples an axis, in fp64: its column means [p], and U^T U / P as two diagonals [p, 2]."""
    mean, square = normalization.moments(p, P, neighbours, torch.empty(0, dtype=torch.float64, device="cpu"))
    beside = torch.cat([square.diagonal(1), square.new_zeros(1)])
    return mean.numpy(), torch.stack([square.diagonal(), beside], 1).flatten().numpy()
