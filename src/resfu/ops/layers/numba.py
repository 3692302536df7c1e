"""A normalisation, an activation and a convolution in one compiled pass, in fp32 on the CPU."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.compiled.threads import flat, past_the_cache, run, scratch
from resfu.ops.compiled.tile import PIXELS
from resfu.ops.layers import numba_kernels as kernels
from resfu.ops.layers.winograd import transformed


def layer(
    x: Tensor, affine: tuple[Tensor, Tensor] | None, convolution: nn.Conv2d, out: Tensor, add: bool, mirrored: bool
) -> tuple[Tensor, Tensor]:
    """See `resfu.upsamplers.bands.layer`, which it is for fp32 maps that lie in order."""
    kind = kernels.AS_IS if affine is None else kernels.ACTIVATED
    scale, shift = (x.new_zeros(1), x.new_zeros(1)) if affine is None else affine
    return _convolved(x, kind, scale, shift, convolution.weight, convolution.bias, out, add, mirrored)


def projected(
    x: Float[Tensor, "H W D"], norm: nn.RMSNorm, weight: Float[Tensor, "M D"], bias: Float[Tensor, " M"]
) -> Float[Tensor, "H W M"]:
    """RMSNorm over the channels and a linear layer, of an fp32 map that lies in order."""
    eps = torch.finfo(x.dtype).eps if norm.eps is None else norm.eps
    out = x.new_empty(*x.shape[:2], len(weight))
    weight = (weight * norm.weight)[:, :, None, None]
    _convolved(x, kernels.UNIT, x.new_zeros(1), x.new_full((1,), eps), weight, bias, out, False, False)
    return out


def _convolved(
    x: Tensor, kind: int, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, add: bool,
    mirrored: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """[H, W, D] to [H, W, M]; the sums of the results and of their squares, [M] in fp64."""
    (H, W, D), M, k = x.shape, out.shape[2], weight.shape[2]
    D16, M32 = (-(-n // step) * step for n, step in ((D, kernels.LANES), (M, PIXELS)))
    biases = x.new_zeros(M32)
    if bias is not None and add:
        out += bias.detach()  # a product starts either from what is there or from the bias
    elif bias is not None:
        biases[:M] = bias.detach()
    source, target = flat(x), out.view(-1).numpy()
    before = (flat(scale), flat(shift), kind)
    behind = (flat(_in_panels(weight, k, D16, M32)), flat(biases), M, M32, target)
    table = torch.zeros(1, dtype=torch.int64, device="cpu").numpy()
    tasks = -(-H * W // kernels.BLOCK) if k == 1 else -(-H // 4)
    sums = x.new_zeros(tasks, 2, M)
    total = flat(sums)
    if k == 1:
        size = kernels.BLOCK * D16 + kernels.ROWS * M32
    else:
        blocks = kernels.POINTS * kernels.TILES * (max(D16, M32) + M32)
        size = blocks + kernels.SIDE * ((kernels.BLOCK + 2) * D16 + kernels.SIDE * kernels.LANES)
    space, past = scratch(size), not add and past_the_cache(out) == 1

    if k == 1:
        given = H * W, source, D, D16, *before, *behind, add, past, total, table, space, size
        run(kernels.pointwise, tasks, *given)
    else:
        given = H, W, source, D, D16, *before, mirrored, *behind, total, table, space, size
        run(kernels.winograd, tasks, *given)
    both = sums.sum(0, dtype=torch.float64)
    return both[0], both[1]


def _in_panels(weight: Tensor, k: int, D16: int, M32: int) -> Tensor:
    """Weights [M, D, k, k] as [points, M32 / 32, D16, 32], fp32: of every 32 output channels all inputs together."""
    matrices = transformed(weight) if k == 3 else weight.detach().flatten(1)[None]
    M, D = matrices.shape[1:]
    matrices = F.pad(matrices, (0, D16 - D, 0, M32 - M)).mT  # [points, D16, M32]
    return matrices.unflatten(2, (-1, PIXELS)).transpose(1, 2).float().contiguous()
