"""Similarity scores as one operator that does not store the hidden channels, neither in forward nor for backward.

The forward pass runs the kernels of `triton.py`. For the backward pass only the inputs are saved. The scores are
computed again with plain differentiable operators (`composition`), all of which have deterministic gradients.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.backends import operators_are_recorded
from resfu.ops.grid import integer_ratio, interpolation_matrix
from resfu.ops.layout import channels_last, memory_format, pad
from resfu.ops.precision import autocast_dtype, without_autocast
from resfu.ops.similarity import compressor as layers
from resfu.ops.similarity import cpu
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.transforms import refuse_derivatives

# The largest number of hidden channels in a group and the largest K that fit into a tile's registers and shared memory.
_WIDEST = {torch.float32: 64, torch.bfloat16: 128, torch.float16: 128}
_LARGEST_KERNEL = 7


def takes(key: Tensor, query: Tensor, weight: Tensor, compressor: Compressor, step: tuple[int, int]) -> bool:
    """Whether the Triton kernels can compute the scores of paired central differences of these maps.

    They take fp32, bf16 and fp16 (the same dtype for maps and weights), K up to 7, groups of at most 64 hidden channels
    in fp32 and 128 otherwise, with as many groups in both layers. The key is at low resolution or, at whole ratios, of
    the query's size.
    """
    maps = (key, query, weight, compressor.reduce_weight, compressor.score_weight)
    dtypes = {autocast_dtype(t) for t in maps}
    width = weight.shape[0] * weight.shape[1] // query.shape[1]  # M / G
    if len(dtypes) > 1 or width > _WIDEST.get(dtypes.pop(), 0) or weight.shape[-1] > _LARGEST_KERNEL:
        return False
    if compressor.reduce_weight.shape[1] != width or query.numel() == 0:
        return False
    if key.shape[-2:] != query.shape[-2:]:
        return True
    return all(integer_ratio(P, p) is not None for P, p in zip(query.shape[-2:], step, strict=True))


def compiles(
    key: Tensor,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    *others: Tensor,
    in_graph: bool = False,
) -> bool:
    """Whether the compiled kernels of `numba.py` can compute the scores of paired central differences of these maps.

    They take fp32, K = 3 and as many groups in both layers. Each group has a multiple of 8 channels, a multiple of 32
    hidden channels, and a whole number of GroupNorm's groups. If PyTorch's operators are recorded (see
    `operators_are_recorded`), the kernels can only run as an operator in the graph of torch.compile (`in_graph`).
    `others` are parameters of layers before.
    """
    tensors = (key, query, weight, bias, *compressor[:6], *others)
    groups, M = query.shape[1] // weight.shape[1], weight.shape[0]
    width, fits = M // groups, compressor.norm_groups % groups == 0
    if any(t.dtype != torch.float32 for t in tensors) or autocast_dtype(query) != torch.float32 or query.numel() == 0:
        return False
    if not in_graph and operators_are_recorded(*tensors):
        return False
    eights = weight.shape[1:] == (weight.shape[1] // 8 * 8, 3, 3)
    return eights and fits and width % 32 == 0 and width == compressor.reduce_weight.shape[1]


def paired_scores(
    key: Tensor,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    step: tuple[int, int],
    neighbours: str,
) -> Tensor:
    """`api.similarity_scores` for maps that `takes` allows; under autocast, in autocast's dtype."""
    refuse_derivatives("similarity_scores", key, query, weight, bias, *compressor[:6])
    key, query, weight, bias = (t.to(autocast_dtype(t)) for t in (key, query, weight, bias))
    layer = {name: getattr(compressor, name) for name in ("reduce_weight", "reduce_bias", "score_weight", "score_bias")}
    compressor = compressor._replace(**{name: t.to(autocast_dtype(t)) for name, t in layer.items()})
    return similarity_scores(key, query, weight, bias, *compressor, *step, neighbours)


@torch.library.custom_op("resfu::similarity_scores", mutates_args=())
def similarity_scores(
    key: Tensor,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    score_weight: Tensor,
    score_bias: Tensor,
    norm_groups: int,
    eps: float,
    h: int,
    w: int,
    neighbours: str,
) -> Tensor:
    """Compute the scores [B, K K, H, W] by the Triton kernels."""
    from resfu.ops.similarity import triton

    compressor = Compressor(
        reduce_weight, reduce_bias, norm_weight, norm_bias, score_weight, score_bias, norm_groups, eps
    )
    reading, key, (H, W), reach = neighbours, key.detach(), query.shape[-2:], weight.shape[-1] // 2
    # Triton launches on the current device. `paired_scores` has already applied autocast.
    with torch.cuda.device_of(query), without_autocast(query):
        if key.shape[-2:] == query.shape[-2:]:
            reading, key = "dilated", pad(key, H // h * reach, W // w * reach)
        return triton.similarity_scores(key, query, weight, bias, compressor, (h, w), reading)


def convolved_key(key: Float[Tensor, "B D h w"], weight: Float[Tensor, "M d K K"]) -> Float[Tensor, "B G h2 w2 N"]:
    """The K x K convolution of the LR key, padded with its border pixels; the result has a border of 1 (h2 = h + 2).

    It is a matrix product, because cuDNN rounds fp32 to TF32 by default.
    """
    K, groups = weight.shape[-1], key.shape[1] // weight.shape[1]
    reach = K // 2 + 1
    windows = F.unfold(pad(key, reach, reach), K).unflatten(1, (groups, -1)).mT  # [B, G, h2 w2, d K K]
    product = windows @ weight.flatten(1).unflatten(0, (groups, -1)).mT
    return product.unflatten(2, (key.shape[-2] + 2, key.shape[-1] + 2))


def composition(
    key: Tensor,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    step: tuple[int, int],
    neighbours: str,
) -> Tensor:
    """The same scores by differentiable operators.

    Interpolation is a product with its matrices, because the gradient of PyTorch's own is not deterministic on CUDA.
    """
    size = (query.shape[-2], query.shape[-1])
    if tuple(key.shape[-2:]) == size:
        query = channels_last(query)
        v = cpu.paired_central_difference(key, query, weight, bias, step, neighbours)(0, size[0])
    else:
        low = convolved_key(key, weight).movedim(4, 2).flatten(1, 2)  # [B, M, h + 2, w + 2]
        rows, columns = (interpolation_matrix(P, p, low, neighbours, 1) for P, p in zip(size, step, strict=True))
        groups = query.shape[1] // weight.shape[1]
        v = F.conv2d(query, -weight.sum((2, 3), keepdim=True), bias, groups=groups) + rows @ (low @ columns.mT)
    return layers.scores(layers.hidden_channels(v, compressor), compressor)


def gradients(
    grad: Tensor,
    tensors: list[Tensor],
    needs: list[bool],
    norm_groups: int,
    eps: float,
    h: int,
    w: int,
    neighbours: str,
    create_graph: bool = False,
) -> list[Tensor]:
    """Gradients of the scores with respect to those of the ten tensors that need one; computes the scores again."""
    with torch.enable_grad(), without_autocast(grad):
        # Aliases, because the key may depend on the query, and this path is not part of these derivatives.
        inputs = [
            t.view_as(t) if create_graph else t.detach().requires_grad_(need)
            for t, need in zip(tensors, needs, strict=True)
        ]
        key, query, weight, bias, *rest = inputs
        compressor = Compressor(*rest, norm_groups=norm_groups, eps=eps)
        scores = composition(key, query, weight, bias, compressor, (h, w), neighbours)
        wanted = [t for t, need in zip(inputs, needs, strict=True) if need]
        return list(torch.autograd.grad(scores, wanted, grad, create_graph=create_graph))


# The backward pass is one operator too: otherwise a compiler would run the second forward pass together with the first
# and keep its results. It is not a custom_op, because these switch autograd off inside.
torch.library.define(
    "resfu::similarity_scores_backward",
    "(Tensor grad, Tensor[] tensors, bool[] needs, int norm_groups, float eps, SymInt h, SymInt w, str neighbours)"
    " -> Tensor[]",
    tags=torch.Tag.pt2_compliant_tag,
)


@torch.library.impl("resfu::similarity_scores_backward", "CompositeExplicitAutograd")
def _(grad, tensors, needs, *rest):
    wanted = [t for t, need in zip(tensors, needs, strict=True) if need]
    found = gradients(grad, tensors, needs, *rest)
    return [g.contiguous(memory_format=memory_format(t)) for g, t in zip(found, wanted, strict=True)]


@torch.library.register_fake("resfu::similarity_scores_backward")
def _(grad, tensors, needs, *rest):
    wanted = [t for t, need in zip(tensors, needs, strict=True) if need]
    return [torch.empty_like(t, memory_format=memory_format(t)) for t in wanted]


@similarity_scores.register_fake
def _(key, query, weight, bias, reduce_weight, reduce_bias, norm_weight, norm_bias, score_weight, *rest):
    return query.new_empty((query.shape[0], score_weight.shape[0], *query.shape[-2:]))


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:10])
    ctx.rest = inputs[10:]


def _backward(ctx, grad):
    tensors, needs = list(ctx.saved_tensors), list(ctx.needs_input_grad[:10])
    if torch.is_grad_enabled():  # for second derivatives
        found = gradients(grad, tensors, needs, *ctx.rest, create_graph=True)
    else:
        found = torch.ops.resfu.similarity_scores_backward(grad, tensors, needs, *ctx.rest)
    found = iter(found)
    return (*(next(found) if need else None for need in needs), *(None for _ in ctx.rest))


similarity_scores.register_autograd(_backward, setup_context=_setup_context)
