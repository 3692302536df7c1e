"""AnyUp's feature-agnostic layer by a compiled kernel, in fp32 on the CPU."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import PIXELS, ROWS
from resfu.ops.layers import unify_kernels as kernels


def unify(features: Float[Tensor, "B C h w"], basis: Float[Tensor, "M 1 k k"]) -> Float[Tensor, "B M h w"]:
    """The released form of `resfu.upsamplers.unify.Unify`, for normalised features."""
    (B, C, h, w), (M, _, k, _) = features.shape, basis.shape
    M32, C8 = (-(-n // step) * step for n, step in ((M, PIXELS), (C, ROWS)))
    x = F.pad(features, (k // 2,) * 4).movedim(1, -1)
    taps = F.conv2d(F.pad(features.new_ones(1, 1, h, w), (k // 2,) * 4), features.new_ones(1, 1, k, k))
    filters = F.pad(basis.detach().flatten(1), (0, 0, 0, M32 - M)).mT
    out = features.new_empty(B, h, w, M)
    size = k * k * C8 + C8 * M + PIXELS + 2 * C
    source, inverse, weight, target = flat(x.contiguous()), flat(1 / taps), flat(filters.contiguous()), flat(out)
    table = torch.zeros(1, dtype=torch.int64, device="cpu").numpy()
    space, image = scratch(size), (h + k - 1) * (w + k - 1) * C

    for b in range(B):
        here, there = source[b * image :], target[b * h * w * M :]
        run(kernels.unify, h, here, inverse, w, C, k, weight, M, M32, there, table, space, size)
    return out.movedim(-1, 1).contiguous()  # PyTorch's GroupNorm is less accurate for channels-last maps
