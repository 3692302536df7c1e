"""Scores of maps that are smoothed and normalised first, where compiled kernels do all of it."""

from torch import Tensor

from resfu.ops.backends import which_backend
from resfu.ops.similarity import operators
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
    """Whether `normalised_scores` computes the scores of these maps."""
    if which_backend(query, backend) != "numba":
        return False
    return operators.compiles(query if key is None else key, query, weight, bias, compressor, step, *affine)


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
    from resfu.ops.similarity import numba, numba_padded

    norm = numba_padded.Norm(*affine, groups, eps)
    return numba.similarity_scores(key, query, weight, bias, compressor, step, neighbours, norm)
