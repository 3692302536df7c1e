"""The similarity scores by compiled kernels, for paired central differences in fp32 on the CPU.

Hidden channels live in tiles of 32 pixels and are never written: GroupNorm's groups are scored apart, 72 numbers a
pixel instead of 128, and joined when its statistics are known. Backward computes them again.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from resfu.ops.backends import gradients_are_recorded
from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import PIXELS
from resfu.ops.filters import gaussian_filter
from resfu.ops.similarity import numba_kernels as kernels
from resfu.ops.similarity import operators
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.similarity.numba_backward import backward
from resfu.ops.similarity.numba_maps import Layers, Maps, Rest, made_ready
from resfu.ops.similarity.numba_padded import Norm
from resfu.ops.similarity.numba_partial import partial_scores, room

_MOST = 1 << 23  # partial scores held at once: 32 MB
_KEPT = 1 << 25  # kept for backward, at most: 128 MB


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
    tensors = key, query, weight, bias, *compressor[:6], *affine
    trained = gradients_are_recorded(*(t for t in tensors if t is not None))
    return _Scores.apply(rest, trained, *tensors)  # pyright: ignore[reportReturnType]


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rest: Rest, trained: bool, *tensors: Tensor | None) -> Tensor:
        maps, layers, c = made_ready(tensors, rest)
        # Those of a key of the query's size take twice the time of others: backward then saves a pass over the map.
        kept = trained and not maps.is_low and _number(maps, c) * len(maps.planes) <= _KEPT
        out, mean, inverse, partial = forward(maps, layers, c, kept)
        ctx.save_for_backward(*tensors, mean, inverse, partial)
        ctx.rest = rest
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        *tensors, mean, inverse, partial = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # for derivatives of the derivatives
            found = _by_operators(tensors, ctx.rest, needs, grads[0])
        else:
            found = backward(tensors, ctx.rest, mean, inverse, partial, grads[0].contiguous())
        return None, None, *(each if need else None for each, need in zip(found, needs, strict=True))


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


def forward(maps: Maps, layers: Layers, c: Compressor, kept: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Scores [B, 9, H, W]; mean and inverse deviation of GroupNorm's groups, [B, norm groups] in fp64; partial scores.

    With `kept` these come back, see `numba_partial.room`.
    """
    B, (H, W), N = maps.shape[0], maps.size, c.norm_groups
    out = maps.planes.new_empty((B, kernels.COUNT, H, W))
    at_once = B if kept else max(1, min(B, _MOST // _number(maps, c)))
    partial, space = room(maps, c, at_once), scratch(PIXELS)
    mean, inverse = (torch.empty((B, N), dtype=torch.float64, device="cpu") for _ in range(2))
    scale, shift = maps.planes.new_empty((B, N)), maps.planes.new_empty((B, kernels.COUNT))
    layer = [flat(t) for t in (c.score_weight, c.score_bias, c.norm_weight, c.norm_bias)]
    for first in range(0, B, at_once):
        last = min(B, first + at_once)
        sums = partial_scores(maps, layers, c, first, last, partial)
        found = [flat(t[first:last]) for t in (mean, inverse, scale, shift)]
        kernels.group_statistics(last - first, H, W, N, len(layers.bias), flat(sums), *layer, c.eps, *found)
        arrays = [flat(partial), *found[2:], flat(out[first:last])]
        given = arrays[0], N, *arrays[1:], maps.table, space
        run(kernels.total_scores, (last - first) * H, H, W, *given)
    return out, mean, inverse, partial if kept else None


def _number(maps: Maps, c: Compressor) -> int:
    """How many partial scores an image has."""
    H, W = maps.size
    return H * -(-W // PIXELS) * PIXELS * c.norm_groups * kernels.COUNT
