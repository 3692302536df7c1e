"""The similarity scores by compiled kernels, for paired central differences in fp32 on the CPU.

Hidden channels live in tiles of 32 pixels and are never written: GroupNorm's groups are scored apart, 72 numbers a
pixel instead of 128, and joined when its statistics are known. Backward computes them again.
"""

from typing import Any

import torch
from torch import Tensor

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import PIXELS
from resfu.ops.similarity import numba_kernels as kernels
from resfu.ops.similarity import operators
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.similarity.numba_backward import backward
from resfu.ops.similarity.numba_maps import Layers, Maps, arguments, made_ready, split

_MOST = 1 << 23  # partial scores held at once: 32 MB


def similarity_scores(
    key: Tensor,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    step: tuple[int, int],
    neighbours: str,
) -> Tensor:
    """The scores of maps that `operators.compiles` allows. See `api.similarity_scores`."""
    tensors = (key, query, weight, bias, *compressor)
    return _Scores.apply(*tensors, *step, neighbours)  # pyright: ignore[reportReturnType]


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        tensors, (norm_groups, eps, h, w, neighbours) = given[:10], given[10:]
        maps, layers, compressor = made_ready(tensors, *given[10:])
        out, mean, inverse = forward(maps, layers, compressor)
        ctx.save_for_backward(*tensors, mean, inverse)
        ctx.rest = norm_groups, eps, h, w, neighbours
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        tensors, (mean, inverse), needs = ctx.saved_tensors[:10], ctx.saved_tensors[10:], ctx.needs_input_grad[:10]
        if torch.is_grad_enabled():  # for derivatives of the derivatives
            found = operators.gradients(grads[0], list(tensors), list(needs), *ctx.rest, create_graph=True)
        else:
            found = backward(tensors, ctx.rest, mean, inverse, grads[0].contiguous())
            found = [gradient for gradient, need in zip(found, needs, strict=True) if need]
        found = iter(found)
        return (*(next(found) if need else None for need in needs), *(None for _ in ctx.rest))


def forward(maps: Maps, layers: Layers, c: Compressor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [B, 9, H, W], and the mean and the inverse deviation of GroupNorm's groups, [B, norm groups] in fp64."""
    B, (H, W), N = maps.shape[0], maps.size, c.norm_groups
    out = maps.planes.new_empty((B, kernels.COUNT, H, W))
    tiles = -(-W // PIXELS)
    at_once = max(1, _MOST // (H * tiles * N * kernels.COUNT * PIXELS))
    weighted = (c.score_weight.flatten(1) * c.norm_weight).T.contiguous()  # [M, 9]
    partial = maps.planes.new_empty((min(B, at_once), H, tiles, N, kernels.COUNT, PIXELS))
    space, statistics = scratch(PIXELS), []
    for first in range(0, B, at_once):
        last = min(B, first + at_once)
        sums = _partial(maps, layers, weighted, partial, first, last, N)
        mean, inverse = group_statistics(sums, H * W, N, c.eps)
        statistics.append((mean, inverse))
        shift = c.score_bias.double() + c.score_weight.flatten(1).double() @ c.norm_bias.double()
        moved = mean * inverse @ weighted.double().unflatten(0, (N, -1)).sum(1)
        arrays = [flat(t) for t in (partial, inverse.float(), (shift - moved).float(), out[first:last])]
        run(
            lambda a, b, thread, arrays=arrays: kernels.total_scores(
                a, b, H, W, arrays[0], N, *arrays[1:], maps.table.numpy(), space, thread * PIXELS
            ),
            (last - first) * H,
        )
    mean, inverse = (torch.cat(each) for each in zip(*statistics, strict=True))
    return out, mean, inverse


def _partial(
    maps: Maps, layers: Layers, weighted: Tensor, partial: Tensor, first: int, last: int, norm_groups: int
) -> Tensor:
    """Fills the partial scores of some images; the sums of their hidden channels, [images, 2, M] in fp64."""
    (H, W), M = maps.size, len(layers.bias)
    sums = maps.planes.new_empty((last - first, H, 2, M))
    given = arguments(maps, layers, first, last)
    m, J = M // maps.groups, maps.J
    size = PIXELS + 3 * m * PIXELS + maps.is_low * (maps.low.shape[2] + J) * M
    space = scratch(size)
    results = flat(partial), flat(sums)
    weights = flat(weighted)
    head, tail = split(given)

    def task(a: int, b: int, thread: int) -> None:
        kernels.partial_scores(a, b, H, W, *head, weights, norm_groups, *tail, *results, space, thread * size + PIXELS)

    run(task, (last - first) * H)
    return sums.sum(1, dtype=torch.float64)


def group_statistics(sums: Tensor, pixels: int, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation of GroupNorm's groups, [B, groups] each, from the sums of channels, [B, 2, M]."""
    total, square = (t.unflatten(1, (groups, -1)).sum(2) for t in sums.unbind(1))
    count = pixels * sums.shape[2] // groups
    mean = total / count
    return mean, ((square / count - mean * mean).clamp(min=0) + eps).rsqrt()
