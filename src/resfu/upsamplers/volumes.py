"""Upsampling of volumes [B, C, D, H, W]: the three-dimensional forms of three methods, computed slab by slab.

A slab is a few low-resolution planes. Its intermediates (for CARAFE, K^3 times the slab's output) are freed when the
slab is done and computed again in the backward pass, so that memory stays close to the size of the output.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from resfu.ops.grid import interpolation_matrix, lr_position

_SLAB = 1 << 22  # numbers in the intermediates of a slab: 16 MB in fp32


def trilinear(x: Float[Tensor, "B C d h w"], size: tuple[int, int, int]) -> Float[Tensor, "B C D H W"]:
    """`F.interpolate(mode="trilinear")`, with a deterministic backward pass on CUDA, by three products of matrices.

    Columns are interpolated first and planes last.
    """
    if x.device.type != "cuda" or not (torch.is_grad_enabled() and x.requires_grad):
        return F.interpolate(x, size=size, mode="trilinear", align_corners=False)
    for dim, P in ((-1, size[2]), (-2, size[1]), (-3, size[0])):
        x = (x.movedim(dim, -1) @ interpolation_matrix(P, x.shape[dim], x).mT).movedim(-1, dim)
    return x.contiguous()


def voxel_shuffle(x: Float[Tensor, "B CRRR d h w"], ratio: int) -> Float[Tensor, "B C D H W"]:
    """`F.pixel_shuffle` in three dimensions: channel ((c r + a) r + b) r + e is sub-voxel (a, b, e) of channel c."""
    x = x.unflatten(1, (-1, ratio, ratio, ratio)).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def reassemble_voxels(
    features: Float[Tensor, "B C d h w"],
    scores: Callable[[int, int], Tensor],
    kernel_size: int,
    ratio: int,
    groups: int,
) -> Float[Tensor, "B C D H W"]:
    """CARAFE in 3-D: a weighted sum over the K^3 neighbours of the low-resolution voxel, with zeros beyond the border.

    The r^3 output voxels inside a low-resolution voxel share its neighbours, so each low-resolution voxel and group
    needs one product of matrices [C / G, K^3] [K^3, r^3].

    Args:
        features: [B, C, d, h, w].
        scores: function (first plane, one past the last) -> [B, G K^3 r^3, planes, h, w], before the softmax.
        kernel_size: K.
        ratio: r.
        groups: G, number of blocks of channels, each with weights of its own.
    """
    B, C, d, h, w = features.shape
    K, r = kernel_size, ratio
    padded = F.pad(features, (K // 2,) * 6)

    def slab(planes: Tensor, first: int, last: int) -> Tensor:
        n = last - first
        weights = scores(first, last).float() if features.dtype.itemsize < 4 else scores(first, last)
        weights = weights.unflatten(1, (groups, K**3, r**3)).softmax(2)
        windows = planes.to(weights.dtype).unfold(2, K, 1).unfold(3, K, 1).unfold(4, K, 1)  # [B, C, n, h, w, K, K, K]
        windows = windows.unflatten(1, (groups, -1)).permute(0, 1, 3, 4, 5, 2, 6, 7, 8).flatten(6)
        product = windows @ weights.permute(0, 1, 4, 5, 6, 2, 3)  # [B, G, n, h, w, C / G, r^3]
        product = product.unflatten(6, (r, r, r)).permute(0, 1, 5, 2, 6, 3, 7, 4, 8)
        return product.reshape(B, C, n * r, h * r, w * r).to(features.dtype)

    needed = B * h * w * K**3 * (C + groups * r**3)
    return _slabs(lambda first, last: (slab, padded[:, :, first : last + K - 1]), d, needed)


def sample_voxels(
    features: Float[Tensor, "B C d h w"],
    offsets: Callable[[int, int], Tensor],
    ratio: int,
    groups: int,
) -> Float[Tensor, "B C D H W"]:
    """DySample in 3-D: trilinear sampling at shifted positions, clamped to the border.

    Args:
        features: [B, C, d, h, w], in at least fp32.
        offsets: function (first plane, one past the last) -> [B, 3, G, r planes, H, W], offsets of columns, rows and
            planes in low-resolution voxels.
        ratio: r.
        groups: G, number of blocks of channels, each with offsets of its own.
    """
    B, _, d, h, w = features.shape
    blocks = features.unflatten(1, (groups, -1)).flatten(0, 1)

    def slab(whole: Tensor, first: int, last: int) -> Tensor:
        shift = offsets(first, last)
        grid = []
        for axis, (p, part) in enumerate(((w, slice(None)), (h, slice(None)), (d, slice(first * ratio, last * ratio)))):
            shape = [1, 1, 1]
            shape[2 - axis] = -1
            position = lr_position(p * ratio, p, whole.device, whole.dtype)[part].view(shape) + shift[:, axis]
            grid.append((2 * position + 1) / p - 1)
        positions = torch.stack(grid, -1).flatten(0, 1)
        out = F.grid_sample(whole, positions, mode="bilinear", padding_mode="border", align_corners=False)
        return out.unflatten(0, (B, groups)).flatten(1, 2)

    return _slabs(lambda first, last: (slab, blocks), d, B * h * w * ratio**3 * groups * 9)


def _slabs(
    work: Callable[[int, int], tuple[Callable[[Tensor, int, int], Tensor], Tensor]], planes: int, needed: int
) -> Tensor:
    """Compute a volume of `planes` low-resolution planes slab by slab; a plane's intermediates are `needed` numbers."""
    step = max(1, _SLAB // needed)
    out = []
    for first in range(0, planes, step):
        last = min(first + step, planes)
        slab, source = work(first, last)
        if torch.is_grad_enabled() and planes > step:
            part = checkpoint(slab, source, first, last, use_reentrant=False)
            assert isinstance(part, Tensor)
            out.append(part)
        else:
            out.append(slab(source, first, last))
    return out[0] if len(out) == 1 else torch.cat(out, 2)
