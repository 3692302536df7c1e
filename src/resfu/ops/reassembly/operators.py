"""Reassembly as a sum over windows of the low-resolution (LR) map, without a high-resolution copy of the features.

Bilinear sampling followed by a K x K window equals a (K + 1) x (K + 1) window on the LR map, whose weights are the
pixel's K x K weights convolved with its 2 x 2 bilinear weights. "dense" is "coarse" at ratio 1. So all kinds of
neighbours are the same operation, which is linear in features and in weights. The derivatives of the three operators
below, of any order, are again these operators. Their kernels are in `cpu.py` and `triton.py`.
"""

from collections.abc import Callable
from types import ModuleType

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.backends import operators_are_recorded
from resfu.ops.compiling import in_torch_compile
from resfu.ops.grid import lr_cell
from resfu.ops.in_graphs import graph_operator
from resfu.ops.layout import memory_format
from resfu.ops.reassembly import cpu
from resfu.ops.reassembly.tiles import weights_format


def size(K: int, neighbours: str) -> int:
    """M, the side of the window of LR pixels from which K x K neighbours are read."""
    return K + 1 if neighbours == "fine" else K


def reassemble(
    padded: Float[Tensor, "B C h1 w1"],
    weights: Float[Tensor, "B GKK H W"],
    low: tuple[int, int],
    neighbours: str,
    groups: int,
    summed: Callable[..., Tensor] | None = None,
) -> Float[Tensor, "B C H W"]:
    """Compute the same as `reference.reassemble`, but fast.

    The features have the size `low` and are padded by half a window. `summed` replaces `window_sum`, if given.
    """
    K = round((weights.shape[1] // groups) ** 0.5)
    if neighbours == "fine":
        weights = spread(weights, K, *_fractions(weights, low))
    return (summed or window_sum)(padded, weights, size(K, neighbours), *low, neighbours, groups)


def correlate(
    query: Float[Tensor, "B D H W"],
    padded: Float[Tensor, "B D h1 w1"],
    low: tuple[int, int],
    K: int,
    neighbours: str,
    correlated: Callable[..., Tensor] | None = None,
) -> Float[Tensor, "B KK H W"]:
    """Compute the same as `reference.correlate`, but fast.

    The key has the size `low` and is padded by half a window. `correlated` replaces `window_sum_to_weights`, if given.
    """
    M = size(K, neighbours)
    scores = (correlated or window_sum_to_weights)(query, padded, M, *low, neighbours, 1)
    return between(scores, K, *_fractions(scores, low)) if neighbours == "fine" else scores


def between(scores: Float[Tensor, "B MM H W"], K: int, rows: Tensor, columns: Tensor) -> Float[Tensor, "B KK H W"]:
    """Scores of the K x K bilinear neighbours from scores of M x M low-resolution pixels: the adjoint of `spread`."""
    scores = scores.unflatten(1, (K + 1, K + 1))
    for dim, fraction in ((1, rows[:, None]), (2, columns)):
        scores = torch.lerp(scores.narrow(dim, 0, K), scores.narrow(dim, 1, K), fraction)
    return scores.flatten(1, 2)


def _fractions(x: Tensor, low: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """For every row and column of an image, its fractional position between two low-resolution rows or columns."""
    rows, columns = (lr_cell(P, p, x.device, x.dtype)[1] for P, p in zip(x.shape[-2:], low, strict=True))
    return rows, columns


def spread(weights: Float[Tensor, "B GKK H W"], K: int, rows: Tensor, columns: Tensor) -> Float[Tensor, "B GMM H W"]:
    """Convolve each pixel's K x K weights with its 2 x 2 bilinear weights, to M x M weights with M = K + 1.

    Args:
        weights: [B, G K K, H, W].
        K: side of the window.
        rows: [H], fractional position of each row of pixels between two low-resolution rows.
        columns: [W], the same for columns.
    """
    a = weights.contiguous().unflatten(1, (-1, K, K))  # [B, G, Ky, Kx, H, W]
    a = _spread_axis(a, rows[:, None], 2)
    fraction = columns
    if in_torch_compile():
        # A sum: Inductor cannot order the symbolic strides of a view that it keeps for backward (seen with 2.14).
        beyond = a * fraction
        left, right = F.pad(a - beyond, (0, 0, 0, 0, 0, 1)), F.pad(beyond, (0, 0, 0, 0, 1, 0))
        return left.flatten(1, 3) + right.flatten(1, 3)
    return _spread_axis(a, fraction, 3).flatten(1, 3)


def _spread_axis(a: Tensor, fraction: Tensor, dim: int) -> Tensor:
    beyond = a * fraction
    a, K = a - beyond, a.shape[dim]
    inner = a.narrow(dim, 1, K - 1) + beyond.narrow(dim, 0, K - 1)
    return torch.cat([a.narrow(dim, 0, 1), inner, beyond.narrow(dim, K - 1, 1)], dim)


def compiles(features: Tensor, scores: Tensor, K: int, neighbours: str, groups: int) -> bool:
    """Whether the softmax of these scores is summed by the compiled kernels of `numba.py`, called directly."""
    if not fits(features, scores, K, neighbours, groups):
        return False
    return memory_format(features) == torch.contiguous_format and not operators_are_recorded(features, scores)


def fits(features: Tensor, scores: Tensor, K: int, neighbours: str, groups: int) -> bool:
    """Whether the compiled kernels of `numba.py` support these dtypes, K, neighbours and groups."""
    fp32 = features.dtype == scores.dtype == torch.float32
    return (K, neighbours, groups) == (3, "fine", 1) and fp32 and scores.numel() > 0


def _softmax_window_sum(padded: Tensor, scores: Tensor, h: int, w: int, mask: bool, from_centre: bool) -> Tensor:
    from resfu.ops.reassembly import numba

    return numba.softmax_window_sum(padded.contiguous(), scores.contiguous(), h, w, mask, from_centre)


def _shape_of_sum(padded: Tensor, scores: Tensor, *others: object) -> Tensor:
    return padded.new_empty((*padded.shape[:2], *scores.shape[-2:]))


compiled_softmax_window_sum = graph_operator(
    "compiled_softmax_window_sum",
    "Tensor padded, Tensor scores, SymInt h, SymInt w, bool mask, bool from_centre",
    _softmax_window_sum,
    _shape_of_sum,
)


def compiles_whole(
    features: Tensor, pixels: Tensor, K: int, neighbours: str, groups: int = 1, mask: bool = False
) -> bool:
    """Whether the compiled kernels of `numba_real.py` support these windows; `pixels` is weights or a query."""
    fp32 = features.dtype == pixels.dtype == torch.float32
    if (
        neighbours not in ("coarse", "dense")
        or mask
        or groups > 1
        or K not in (3, 5, 7)
        or not fp32
        or features.numel() == 0
        or pixels.numel() == 0
    ):
        return False
    return not operators_are_recorded(features, pixels)


@torch.library.custom_op("resfu::window_sum", mutates_args=())
def window_sum(padded: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """[B, C, h + 2 (M//2), w + 2 (M//2)], [B, groups M M, H, W] -> [B, C, H, W]: sum of each pixel's M x M window."""
    return _kernels(padded).window_sum(padded, weights, M, h, w, neighbours, groups)


@torch.library.custom_op("resfu::window_sum_to_features", mutates_args=())
def window_sum_to_features(
    grad: Tensor, weights: Tensor, M: int, h: int, w: int, neighbours: str, groups: int
) -> Tensor:
    """The adjoint of `window_sum` in the features: [B, C, H, W] -> [B, C, h + 2 (M//2), w + 2 (M//2)]."""
    return _kernels(grad).window_sum_to_features(grad, weights, M, h, w, neighbours, groups)


@torch.library.custom_op("resfu::window_sum_to_weights", mutates_args=())
def window_sum_to_weights(grad: Tensor, padded: Tensor, M: int, h: int, w: int, neighbours: str, groups: int) -> Tensor:
    """The adjoint of `window_sum` in the weights: [B, C, H, W] -> [B, groups M M, H, W]."""
    return _kernels(grad).window_sum_to_weights(grad, padded, M, h, w, neighbours, groups)


@torch.library.custom_op("resfu::softmax_window_sum", mutates_args=(), device_types="cuda")
def softmax_window_sum(
    padded: Tensor, scores: Tensor, K: int, h: int, w: int, neighbours: str, groups: int, mask: bool
) -> Tensor:
    """`reassemble` with the softmax of scores [B, groups K K, H, W], in one kernel; for calls without gradients."""
    return _kernels(padded).softmax_window_sum(padded, scores, K, h, w, neighbours, groups, mask)


def _kernels(x: Tensor) -> ModuleType:
    if x.device.type == "cuda":
        from resfu.ops.reassembly import triton

        return triton
    return cpu


@window_sum.register_fake
def _(padded, weights, M, h, w, neighbours, groups):
    size = (*padded.shape[:2], *weights.shape[-2:])
    return torch.empty(size, dtype=padded.dtype, device=padded.device, memory_format=memory_format(padded))


@softmax_window_sum.register_fake
def _(padded, scores, K, h, w, neighbours, groups, mask):
    size = (*padded.shape[:2], *scores.shape[-2:])
    return torch.empty(size, dtype=padded.dtype, device=padded.device, memory_format=memory_format(padded))


@window_sum_to_features.register_fake
def _(grad, weights, M, h, w, neighbours, groups):
    reach = M // 2
    return grad.new_empty((*grad.shape[:2], h + 2 * reach, w + 2 * reach))


@window_sum_to_weights.register_fake
def _(grad, padded, M, h, w, neighbours, groups):
    size = (grad.shape[0], groups * M * M, *grad.shape[-2:])
    return torch.empty(size, dtype=grad.dtype, device=grad.device, memory_format=weights_format(neighbours))


def _derivatives(operator, differentiate) -> None:
    """Register an operator that is linear in each of its first two tensors."""

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])
        ctx.rest = inputs[2:]

    def backward(ctx, cotangent):
        first, second = ctx.saved_tensors
        in_first, in_second = differentiate(cotangent, first, second, *ctx.rest)
        return (
            in_first() if ctx.needs_input_grad[0] else None,
            in_second() if ctx.needs_input_grad[1] else None,
            *(None for _ in ctx.rest),
        )

    operator.register_autograd(backward, setup_context=setup_context)


_derivatives(
    window_sum,
    lambda d, padded, weights, *rest: (
        lambda: window_sum_to_features(d, weights, *rest),
        lambda: window_sum_to_weights(d, padded, *rest),
    ),
)
_derivatives(
    window_sum_to_features,
    lambda d, grad, weights, *rest: (
        lambda: window_sum(d, weights, *rest),
        lambda: window_sum_to_weights(grad, d, *rest),
    ),
)
_derivatives(
    window_sum_to_weights,
    lambda d, grad, padded, *rest: (
        lambda: window_sum(padded, d, *rest),
        lambda: window_sum_to_features(grad, d, *rest),
    ),
)
