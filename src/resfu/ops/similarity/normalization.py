"""GroupNorm of an upsampled map, computed from the low-resolution map x.

Let U be the upsampling matrix of an axis, to P pixels. The mean of the upsampled map is the sum of x weighted by the
column means of U. Its mean square is the sum of (U^T U / P)_rows x (U^T U / P)_columns * x.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.backends import operators_are_recorded
from resfu.ops.grid import interpolation_matrix
from resfu.ops.kept import kept
from resfu.ops.portable import known
from resfu.ops.precision import without_autocast


def upsampled_group_norm(
    x: Float[Tensor, "B D h w"],
    size: tuple[int, int],
    groups: int,
    weight: Float[Tensor, "D"],
    bias: Float[Tensor, "D"],
    eps: float,
    neighbours: str,
) -> Float[Tensor, "B D h w"]:
    """`reference.upsampled_group_norm`, computed fast."""
    value = x.unflatten(1, (groups, -1))  # [B, G, D / G, h, w]
    shift = value.mean((2, 3, 4), keepdim=True)
    value = value - shift  # keeps the difference of mean square and squared mean accurate
    rows = _moments(x.shape[-2], size[0], neighbours, value)
    square = known(x.shape[-2] == x.shape[-1]) and known(size[0] == size[1])
    columns = rows if square else _moments(x.shape[-1], size[1], neighbours, value)
    with without_autocast(x):
        mean = (value @ columns[0] @ rows[0]).mean(2)
        mean_square = (rows[1] @ value @ columns[1] * value).sum((-2, -1)).mean(2)
    scale = (mean_square - mean * mean + eps).rsqrt()[:, :, None, None, None]
    normalised = ((value - mean[:, :, None, None, None]) * scale).flatten(1, 2)
    return normalised * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)


def gradients(
    x: Float[Tensor, "B D h w"],
    size: tuple[int, int],
    groups: int,
    weight: Float[Tensor, "D"],
    eps: float,
    neighbours: str,
    grad: Float[Tensor, "B D h w"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `upsampled_group_norm` with respect to x, weight and bias, written out.

    For small maps autograd's many operators would cost more than the arithmetic. Let v be the centred values,
    mean = u v and mean square = v S v, r = 1 / deviation, g = weight grad and v' = v - mean. The gradient with respect
    to the mean square is - r^3 / 2 sum g v', and with respect to the mean - r sum g + r^3 mean sum g v'.
    """
    value, change = x.unflatten(1, (groups, -1)), grad.unflatten(1, (groups, -1))  # [B, G, D / G, h, w]
    value = value - value.mean((2, 3, 4), keepdim=True)
    rows, columns = (_moments(p, P, neighbours, value) for p, P in zip(x.shape[-2:], size, strict=True))
    weighed = rows[1] @ value @ columns[1]  # S v, times D / G
    once = rows[0][:, None] * columns[0]  # u, times D / G
    mean = (value * once).sum((2, 3, 4), keepdim=True) / value.shape[2]
    mean_square = (weighed * value).sum((2, 3, 4), keepdim=True) / value.shape[2]
    inverse = (mean_square - mean * mean + eps).rsqrt()
    plain = change.sum((3, 4))  # [B, G, D / G]
    times = ((value - mean) * change).sum((3, 4))
    by_group = weight.view(groups, -1)
    one, other = ((by_group * t).sum(2)[:, :, None, None, None] for t in (plain, times))
    steep = inverse**3 * other / value.shape[2]
    in_mean = steep * mean - inverse * one / value.shape[2]
    d_x = change * (by_group[..., None, None] * inverse) + in_mean * once - steep * weighed
    d_weight = (times * inverse[..., 0, 0]).sum(0)
    return d_x.flatten(1, 2), d_weight.flatten(), plain.sum(0).flatten()


def _moments(p: int, P: int, neighbours: str, like: Tensor) -> tuple[Tensor, Tensor]:
    if like.device.type == "cpu" and not operators_are_recorded(like):
        return _kept_moments(p, P, neighbours, like.dtype)
    return moments(p, P, neighbours, like)


@kept()
def _kept_moments(p: int, P: int, neighbours: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return moments(p, P, neighbours, torch.empty(0, dtype=dtype, device="cpu"))


def moments(p: int, P: int, neighbours: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """Column means [p] and U^T U / P [p, p] of the matrix U [P, p] that upsamples an axis."""
    U = interpolation_matrix(P, p, like, neighbours)
    with without_autocast(like):
        return U.mean(0), U.T @ U / P
