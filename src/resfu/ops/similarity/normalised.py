"""Scores of maps that are smoothed and normalised first, where compiled kernels do all of it."""

from typing import Any

from torch import Tensor

from resfu.ops.backends import which_backend
from resfu.ops.compiling import in_torch_compile
from resfu.ops.in_graphs import graph_operator, kernels_in_graph
from resfu.ops.similarity import operators
from resfu.ops.similarity.compressor import Compressor


def takes(
    key: Tensor | None,
    query: Tensor,
    affine: tuple[Tensor, Tensor],
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    backend: str,
) -> bool:
    """Whether `normalised_scores` computes the scores of these maps."""
    given = query if key is None else key, query, weight, bias, compressor, *affine
    in_graph = kernels_in_graph(query, backend)
    chosen = in_graph or which_backend(query, backend) == "numba"
    return chosen and operators.compiles(*given, in_graph=in_graph)


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
) -> Tensor:
    """`similarity_scores` of paired central differences, with GroupNorm of the query, and of a key of its size.

    Args:
        key: [B, D, H, W], or [B, D, h, w], which is not normalised. None stands for the query smoothed by
            `gaussian_filter`.
        query: [B, D, H, W].
        affine: GroupNorm's weight and bias, [D] each.
        groups: GroupNorm's.
        eps: GroupNorm's.
        weight: [M, D / G, 3, 3].
        bias: [M].
        compressor: the layers that follow.
        step: (h, w).
        neighbours: how an LR key is read.

    Returns:
        [B, 9, H, W].
    """
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
