"""GroupNorm's affine, SiLU and a convolution in one compiled pass, in fp32 on the CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import PIXELS
from resfu.ops.layers import numba_kernels as kernels
from resfu.ops.layers.winograd import transformed


def layer(
    x: Tensor, affine: tuple[Tensor, Tensor] | None, convolution: nn.Conv2d, out: Tensor, add: bool, mirrored: bool
) -> tuple[Tensor, Tensor]:
    """See `resfu.upsamplers.bands.layer`, which it is for fp32 maps that lie in order."""
    (H, W, D), M, k = x.shape, out.shape[2], convolution.kernel_size[0]
    D16, M32 = (-(-n // step) * step for n, step in ((D, kernels.LANES), (M, PIXELS)))
    scale, shift = (x.new_zeros(1), x.new_zeros(1)) if affine is None else affine
    bias = x.new_zeros(M32)
    if convolution.bias is not None:
        bias[:M] = convolution.bias.detach()
    weight = flat(_in_panels(convolution.weight, k, D16, M32))
    source, target = flat(x), out.view(-1).numpy()
    layers = (flat(scale), flat(shift), affine is not None)
    table = torch.zeros(1, dtype=torch.int64).numpy()
    tasks = -(-H * W // kernels.BLOCK) if k == 1 else -(-H // 4)
    sums = torch.zeros(tasks, 2, M)
    total = flat(sums)
    if k == 1:
        size = kernels.BLOCK * D16 + kernels.ROWS * M32
    else:
        blocks = kernels.POINTS * kernels.TILES * (max(D16, M32) + M32)
        size = blocks + kernels.SIDE * ((kernels.BLOCK + 2) * D16 + kernels.SIDE * kernels.LANES)
    space, biases = scratch(size), flat(bias)

    def task(first: int, last: int, thread: int) -> None:
        behind = (weight, biases, M, M32, target)
        if k == 1:
            kernels.pointwise(
                first, last, H * W, source, D, D16, *layers, *behind, add, total, table, space, thread * size
            )
        else:
            kernels.winograd(
                first, last, H, W, source, D, D16, *layers, mirrored, *behind, total, table, space, thread * size
            )

    run(task, tasks)
    both = sums.sum(0, dtype=torch.float64)
    return both[0], both[1]


def _in_panels(weight: Tensor, k: int, D16: int, M32: int) -> Tensor:
    """Weights [M, D, k, k] as [points, M32 / 32, D16, 32], fp32: of every 32 output channels all inputs together."""
    matrices = transformed(weight) if k == 3 else weight.detach().flatten(1)[None]
    M, D = matrices.shape[1:]
    matrices = F.pad(matrices, (0, D16 - D, 0, M32 - M)).mT  # [points, D16, M32]
    return matrices.unflatten(2, (-1, PIXELS)).transpose(1, 2).float().contiguous()
