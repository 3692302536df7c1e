"""GroupNorm and a 1 x 1 convolution by compiled kernels, in fp32 on the CPU: the normalised map stays in the cache."""

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import PIXELS, ROWS
from resfu.ops.layers import projection_kernels as kernels


def normalised_product(
    x: Float[Tensor, "B C H W"],
    groups: int,
    affine: tuple[Tensor, Tensor],
    eps: float,
    weight: Float[Tensor, "D C"],
    bias: Float[Tensor, " D"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute weight norm(x) + bias [B, D, H, W], and mean and inverse deviation of the groups, [B, groups] each.

    Args:
        x: [B, C, H, W], contiguous.
        groups: number of groups of GroupNorm.
        affine: weight and bias of GroupNorm, [C] each.
        eps: of GroupNorm.
        weight: [D, C] of the convolution; D is a multiple of 8.
        bias: [D] of the convolution.
    """
    (B, C, H, W), D = x.shape, len(weight)
    out, mean, inverse = x.new_empty((B, D, H, W)), x.new_empty((B, groups)), x.new_empty((B, groups))
    moments = flat(mean), flat(inverse)
    run(kernels.group_moments, B * groups, flat(x), C // groups * H * W, eps, *moments)
    size = C * kernels.BLOCK + ROWS * PIXELS
    layers = [flat(t) for t in (*affine, weight, bias)]
    given = C, H * W, groups, *moments, *layers, D, flat(out), _TABLE, scratch(size), size
    run(kernels.normalised_product, B * -(-H * W // kernels.BLOCK), flat(x), *given)
    return out, mean, inverse


_TABLE = torch.zeros(1, dtype=torch.int64, device="cpu").numpy()
