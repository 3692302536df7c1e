"""Nearest-neighbour repetition, exact at any ratio."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.compiling import in_torch_compile
from resfu.ops.grid import containing_cell
from resfu.ops.layout import memory_format

# PyTorch's operator computes p h / H in fp32. Where it is a whole number, rounding may lead to the pixel before
# it (as from 12 to 74 pixels at p = 37). A slightly smaller scale compensates for the rounding, and does not reach a
# later pixel as long as the least common multiple h H / gcd(h, H) is below 2^21.
_LESS = 1 - 2**-22
_EXACT = 1 << 21


def repeated(x: Float[Tensor, "B C h w"], size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
    """Nearest-neighbour upsampling, out[p, q] = x[floor(p h / H), floor(q w / W)].

    Unlike `F.interpolate` it is exact where p h / H is a whole number (see `_LESS`).
    """
    (h, w), (H, W) = x.shape[-2:], size
    if in_torch_compile() and H % h == 0 and W % w == 0:  # this form has deterministic gradients
        spread = x[..., :, None, :, None].expand(*x.shape[:-2], h, H // h, w, W // w)
        return spread.clone(memory_format=torch.contiguous_format).view(*x.shape[:-2], H, W)  # `reshape` may not copy
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if recorded or any(math.lcm(P, p) >= _EXACT for P, p in ((H, h), (W, w))):
        # In a recorded program the operator's ratio would be a constant: torch.compile would treat it as fixed, and
        # other runtimes would compute the size of an exported program's output from it.
        rows, columns = containing_cell(H, h, x.device), containing_cell(W, w, x.device)
        out = x.index_select(-2, rows).index_select(-1, columns)
        return out.contiguous(memory_format=memory_format(x))  # as the operator below returns it
    return torch.ops.aten.upsample_nearest2d(x, size, H / h * _LESS, W / w * _LESS)
