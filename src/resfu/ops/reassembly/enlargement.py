"""Window sums over a bicubically upsampled map, without computing the upsampled map.

Bicubic upsampling and a window sum are both linear in the map and the same for all its channels. So a pixel's 7 x 7
weights can be converted, by the transposed upsampling, to weights of 7 x 7 low-resolution pixels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from resfu.ops.backends import operators_are_recorded, which_backend
from resfu.ops.layout import memory_format
from resfu.ops.reassembly.api import reassemble

_CUBIC = -0.75  # PyTorch's parameter of the cubic kernel


def enlarged_sum(
    features: Float[Tensor, "B C h w"],
    weights: Float[Tensor, "B KK H W"],
    bias: Float[Tensor, "C"] | None = None,
) -> Float[Tensor, "B C H W"]:
    """`reassemble` the bicubically upsampled features with "dense" neighbours and "reflect" padding, and add a bias.

    Args:
        features: [B, C, h, w].
        weights: [B, K * K, H, W].
        bias: [C], added to the result.

    Returns:
        [B, C, H, W] in the features' dtype.
    """
    size = (weights.shape[-2], weights.shape[-1])
    if _compiles(features, weights, bias):
        from resfu.ops.reassembly import numba_doubled

        _, C, h, w = features.shape
        if weights.shape[1] == numba_doubled.WINDOW**2 and numba_doubled.takes(C, h, w, *size):
            return numba_doubled.enlarged_window_sum(features, weights, bias)
    # The upsampled map is not stored in a variable, so that it is freed as soon as it has been padded.
    out = reassemble(_bicubic(features, size), weights, size, "dense", "reflect")
    return out if bias is None else out + bias[:, None, None]


def _compiles(features: Tensor, weights: Tensor, bias: Tensor | None) -> bool:
    tensors = [t for t in (features, weights, bias) if t is not None]
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return False
    if which_backend(features) != "numba" or operators_are_recorded(*tensors):
        return False
    if any(t.dtype != torch.float32 for t in tensors):
        return False
    return features.numel() > 0 and memory_format(features) == torch.contiguous_format


def _bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False).to(x.dtype)


def mirrored_bicubic(p: int, K: int) -> Float[Tensor, "P M M"]:
    """Weights of the 7 low-resolution pixels around a pixel in each of the K = 7 pixels of its window, [2 p, 7, 7].

    The axis has p pixels, is upsampled bicubically by 2 and mirrored at its borders. The low-resolution axis repeats
    its border pixels.
    """
    pixel = torch.arange(2 * p, device="cpu")
    tap = pixel[:, None] + torch.arange(-(K // 2), K // 2 + 1, device="cpu")
    tap = tap.abs()
    tap = torch.where(tap < 2 * p, tap, 2 * (2 * p - 1) - tap)
    before, beyond = torch.div(tap - 1, 2, rounding_mode="floor"), torch.where(tap % 2 == 0, 0.75, 0.25)
    distance = torch.stack([beyond + 1, beyond, 1 - beyond, 2 - beyond], 2).double()
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = _CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    weight = torch.where(distance <= 1, near, far).float()
    place = before[:, :, None] + torch.arange(-1, 3, device="cpu") - (pixel // 2)[:, None, None] + K // 2
    table = weight.new_zeros(2 * p, K, K).scatter_add_(2, place, weight)  # [P, pixels of the window, low]
    return table.mT.contiguous()
