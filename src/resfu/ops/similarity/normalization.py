"""GroupNorm of an upsampled map, from the low-resolution map alone."""

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.grid import key_position, sample_axis


def upsampled_group_norm(
    x: Float[Tensor, "B D h w"],
    size: tuple[int, int],
    groups: int,
    weight: Float[Tensor, "D"],
    bias: Float[Tensor, "D"],
    eps: float = 1e-5,
    neighbours: str = "fine",
) -> Float[Tensor, "B D h w"]:
    """The map whose upsampling to `size` is GroupNorm of x upsampled to `size`.

    Upsampling is linear and its weights sum to 1, so it commutes with the affine map that GroupNorm is. With U the
    upsampling matrix of an axis of P pixels, the mean of the upsampled map is a weighted sum of x with the column means
    of U, and its mean square is sum (U^T U / P)_rows x (U^T U / P)_columns * x. Statistics in fp32 at least.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    value = x.to(dtype).unflatten(1, (groups, -1))  # [B, G, D / G, h, w]
    shift = value.mean((2, 3, 4), keepdim=True)
    value = value - shift  # keeps the difference of mean square and squared mean accurate
    mean, square = value, value
    for n, dim in enumerate((-2, -1)):
        p = x.shape[dim]
        positions = key_position(size[n], p, neighbours, x.device)
        U = sample_axis(torch.eye(p, dtype=dtype, device=x.device), positions, 0)
        columns, gram = U.mean(0), U.T @ U / size[n]
        if dim == -2:
            mean, square = mean * columns[:, None], gram @ square
        else:
            mean, square = mean * columns, square @ gram
    mean = mean.sum((-2, -1)).mean(2)
    square = (square * value).sum((-2, -1)).mean(2)
    scale = (square - mean * mean + eps).rsqrt()[:, :, None, None, None]
    normalised = ((value - mean[:, :, None, None, None]) * scale).flatten(1, 2)
    return (normalised * weight.to(dtype).view(-1, 1, 1) + bias.to(dtype).view(-1, 1, 1)).to(x.dtype)
