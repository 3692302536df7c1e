"""The similarity scores by compiled kernels, for paired central differences in fp32 on the CPU.

Hidden channels live in tiles of 32 pixels and are never written: GroupNorm's groups are scored apart, 72 numbers a
pixel instead of 128, and joined when its statistics are known. Backward computes them again.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import PIXELS
from resfu.ops.filters import gaussian_filter
from resfu.ops.similarity import numba_kernels as kernels
from resfu.ops.similarity import operators
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.similarity.numba_backward import backward
from resfu.ops.similarity.numba_maps import Layers, Maps, Rest, arguments, made_ready, split
from resfu.ops.similarity.numba_padded import Norm

_MOST = 1 << 23  # partial scores held at once: 32 MB


def similarity_scores(
    key: Tensor | None,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    step: tuple[int, int],
    neighbours: str,
    norm: Norm | None = None,
) -> Tensor:
    """The scores of maps that `operators.compiles` allows. See `api.similarity_scores`.

    Args:
        key: None stands for the query smoothed by `gaussian_filter`.
        query: [B, D, H, W].
        weight: [M, D / G, 3, 3].
        bias: [M].
        compressor: the layers that follow.
        step: (h, w).
        neighbours: how an LR key is read.
        norm: normalises the query, and the key where it has the query's size, before they are compared.
    """
    rest = Rest(compressor.norm_groups, compressor.eps, *step, neighbours)
    if norm is not None:
        rest = rest._replace(own_groups=norm.groups, own_eps=norm.eps)
    affine = (None, None) if norm is None else norm[:2]
    return _Scores.apply(rest, key, query, weight, bias, *compressor[:6], *affine)  # pyright: ignore[reportReturnType]


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rest: Rest, *tensors: Tensor | None) -> Tensor:
        out, mean, inverse = forward(*made_ready(tensors, rest))
        ctx.save_for_backward(*tensors, mean, inverse)
        ctx.rest = rest
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        *tensors, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # for derivatives of the derivatives
            found = _by_operators(tensors, ctx.rest, ctx.needs_input_grad[1:], grads[0])
        else:
            found = backward(tensors, ctx.rest, mean, inverse, grads[0].contiguous())
        return (None, *(each if need else None for each, need in zip(found, ctx.needs_input_grad[1:], strict=True)))


def _by_operators(tensors: Sequence[Any], rest: Rest, needs: Sequence[bool], grad: Tensor) -> list[Tensor | None]:
    """Gradients that can be differentiated again."""
    with torch.enable_grad():
        aliases: list[Any] = [t if t is None else t.view_as(t) for t in tensors]  # derivatives stop here
        key, query, weight, bias, *others = aliases
        key = gaussian_filter(query) if key is None else key
        if others[6] is not None:
            groups, (weight_of_norm, bias_of_norm), eps = rest.own_groups, others[6:], rest.own_eps
            maps = [key, query] if key.shape == query.shape else [query]
            *high, query = (torch.group_norm(x, groups, weight_of_norm, bias_of_norm, eps) for x in maps)
            key = high[0] if high else key
        compressor = Compressor(*others[:6], norm_groups=rest.norm_groups, eps=rest.eps)
        step = rest.h, rest.w
        scores = operators.composition(key, query, weight, bias, compressor, step, rest.neighbours)
    wanted = [t for t, need in zip(aliases, needs, strict=True) if need]
    found = iter(torch.autograd.grad(scores, wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needs]


def forward(maps: Maps, layers: Layers, c: Compressor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [B, 9, H, W], and the mean and the inverse deviation of GroupNorm's groups, [B, norm groups] in fp64."""
    B, (H, W), N = maps.shape[0], maps.size, c.norm_groups
    out = maps.planes.new_empty((B, kernels.COUNT, H, W))
    tiles = -(-W // PIXELS)
    at_once = max(1, _MOST // (H * tiles * N * kernels.COUNT * PIXELS))
    weighted = (c.score_weight.flatten(1) * c.norm_weight).T.contiguous()  # [M, 9]
    partial = maps.planes.new_empty((min(B, at_once), H, tiles, N, kernels.COUNT, PIXELS))
    space = scratch(PIXELS)
    mean, inverse = (torch.empty((B, N), dtype=torch.float64, device="cpu") for _ in range(2))
    scale, shift = maps.planes.new_empty((B, N)), maps.planes.new_empty((B, kernels.COUNT))
    layer = [flat(t) for t in (c.score_weight, c.score_bias, c.norm_weight, c.norm_bias)]
    for first in range(0, B, at_once):
        last = min(B, first + at_once)
        sums = _partial(maps, layers, weighted, partial, first, last, N)
        found = [flat(t[first:last]) for t in (mean, inverse, scale, shift)]
        kernels.group_statistics(last - first, H, W, N, len(layers.bias), flat(sums), *layer, c.eps, *found)
        arrays = [flat(partial), *found[2:], flat(out[first:last])]
        run(
            lambda a, b, thread, arrays=arrays: kernels.total_scores(
                a, b, H, W, arrays[0], N, *arrays[1:], maps.table.numpy(), space, thread * PIXELS
            ),
            (last - first) * H,
        )
    return out, mean, inverse


def _partial(
    maps: Maps, layers: Layers, weighted: Tensor, partial: Tensor, first: int, last: int, norm_groups: int
) -> Tensor:
    """Fills the partial scores of some images; the sums of their hidden channels, [images, H, 2, M]."""
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
    return sums
