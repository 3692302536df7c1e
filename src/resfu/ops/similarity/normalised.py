"""Similarity scores including the smoothing and normalisation of the maps, by compiled kernels."""

from typing import Any

from torch import Tensor

from resfu.ops.backends import gradients_are_recorded, operators_are_recorded, which_backend
from resfu.ops.compiling import in_torch_compile
from resfu.ops.in_graphs import graph_operator, kernels_in_graph
from resfu.ops.precision import autocast_dtype
from resfu.ops.similarity import operators
from resfu.ops.similarity.api import upsampled_group_norm
from resfu.ops.similarity.compressor import Compressor


def takes(
    key: Tensor | None,
    query: Tensor,
    affine: tuple[Tensor, Tensor],
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    step: tuple[int, int],
    backend: str,
) -> bool:
    """Whether `normalised_scores` can compute the scores of these maps; on the GPU only without gradients."""
    first = query if key is None else key
    in_graph = kernels_in_graph(query, backend)
    chosen = "numba" if in_graph else which_backend(query, backend)
    if chosen == "triton":
        tensors = first, query, weight, bias, *compressor[:6], *affine
        hidden = operators_are_recorded(*tensors) or gradients_are_recorded(*tensors)
        return not hidden and operators.takes(first, query, weight, compressor, step)
    return chosen == "numba" and operators.compiles(first, query, weight, bias, compressor, *affine, in_graph=in_graph)


def normalised_scores(
    key: Tensor | None,
    query: Tensor,
    affine: tuple[Tensor, Tensor],
    groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    step: tuple[int, int],
    neighbours: str,
    backend: str,
) -> Tensor:
    """`similarity_scores` of paired central differences, with GroupNorm of key and query.

    Args:
        key: [B, D, H, W], or [B, D, h, w], which is treated as upsampled to the query's size. None means the query
            smoothed by `gaussian_filter`.
        query: [B, D, H, W].
        affine: weight and bias of GroupNorm, [D] each.
        groups: of GroupNorm.
        eps: of GroupNorm.
        weight: [M, D / G, K, K].
        bias: [M].
        compressor: the layers that follow.
        step: (h, w).
        neighbours: how an LR key is read.
        backend: as in `takes`.

    Returns:
        [B, K * K, H, W].
    """
    if not in_torch_compile() and which_backend(query, backend) == "triton":
        from resfu.ops.similarity import triton

        dtype = autocast_dtype(query)
        maps = None if key is None else key.to(dtype), query.to(dtype)
        return triton.normalised_scores(*maps, affine, groups, eps, weight, bias, compressor, step, neighbours)
    size = (query.shape[-2], query.shape[-1])
    if key is not None and tuple(key.shape[-2:]) != size:
        key = upsampled_group_norm(key, size, groups, *affine, eps, neighbours, backend)
    tensors = key, query, weight, bias, *compressor[:6], *affine
    settings = groups, eps, compressor.norm_groups, compressor.eps, *step, neighbours
    return (_in_graph if in_torch_compile() else _run)(*tensors, *settings)


def _run(
    key: Tensor | None,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    score_weight: Tensor,
    score_bias: Tensor,
    own_weight: Tensor,
    own_bias: Tensor,
    groups: int,
    eps: float,
    norm_groups: int,
    norm_eps: float,
    h: int,
    w: int,
    neighbours: str,
) -> Tensor:
    from resfu.ops.similarity import numba, numba_padded

    layers = reduce_weight, reduce_bias, norm_weight, norm_bias, score_weight, score_bias
    compressor, norm = Compressor(*layers, norm_groups, norm_eps), numba_padded.Norm(own_weight, own_bias, groups, eps)
    return numba.similarity_scores(key, query, weight, bias, compressor, (h, w), neighbours, norm)


def _shape(key: Tensor | None, query: Tensor, *others: Any) -> Tensor:
    return query.new_empty((query.shape[0], 9, *query.shape[-2:]))


_in_graph = graph_operator(
    "normalised_scores",
    "Tensor? key, Tensor query, Tensor weight, Tensor bias, Tensor reduce_weight, Tensor reduce_bias, "
    "Tensor norm_weight, Tensor norm_bias, Tensor score_weight, Tensor score_bias, Tensor own_weight, Tensor own_bias, "
    "int groups, float eps, int norm_groups, float norm_eps, SymInt h, SymInt w, str neighbours",
    _run,
    _shape,
)
