"""GroupNorm of an upsampled map, from the low-resolution map alone."""

from jaxtyping import Float
from torch import Tensor

from resfu.ops.checks import check_divides, check_maps, pair
from resfu.ops.grid import interpolation_matrix
from resfu.ops.precision import at_least_fp32, without_autocast
from resfu.ops.reassembly.api import which_backend
from resfu.ops.similarity import reference


def upsampled_group_norm(
    x: Float[Tensor, "B D h w"],
    size: tuple[int, int],
    groups: int,
    weight: Float[Tensor, "D"],
    bias: Float[Tensor, "D"],
    eps: float = 1e-5,
    neighbours: str = "fine",
    backend: str = "auto",
) -> Float[Tensor, "B D h w"]:
    """The map whose upsampling to `size` is GroupNorm of x upsampled to `size`.

    Upsampling is linear and its weights sum to 1, so it commutes with the affine map that GroupNorm is. With U the
    upsampling matrix of an axis of P pixels, the mean of the upsampled map is a weighted sum of x with the column means
    of U, and its mean square is sum (U^T U / P)_rows x (U^T U / P)_columns * x. Statistics in fp32 at least.

    Args:
        x: [B, D, h, w].
        size: (H, W).
        groups: of the GroupNorm; divides D.
        weight: [D].
        bias: [D].
        eps: added to the variance.
        neighbours: "fine" upsamples bilinearly, "coarse" repeats the pixel that contains the pixel.
        backend: as in `reassemble`: "reference" upsamples, all others run the same PyTorch operators.

    Raises:
        ValueError: for anything but a floating point map, groups that do not divide its width, an affine of another
            width, a size smaller than the map's, other neighbours or a backend that can't run here.
    """
    check_maps(x=x)
    check_divides("groups", groups, "the width of x", x.shape[1])
    if weight.shape != x.shape[1:2] or bias.shape != x.shape[1:2]:
        raise ValueError(
            f"weight and bias must be [{x.shape[1]}], as wide as x, got {list(weight.shape)} and {list(bias.shape)}."
        )
    size = pair("size", size)
    if size[0] < x.shape[-2] or size[1] < x.shape[-1]:
        raise ValueError(f"size must be at least that of x, {list(x.shape[-2:])}, got {list(size)}.")
    if neighbours not in ("fine", "coarse"):
        raise ValueError(f"neighbours must be fine or coarse, got {neighbours!r}.")
    exact = at_least_fp32(x)
    if which_backend(x, backend) == "reference":
        found = reference.upsampled_group_norm(exact, size, groups, weight.to(exact), bias.to(exact), eps, neighbours)
        return found.to(x.dtype)
    value = exact.unflatten(1, (groups, -1))  # [B, G, D / G, h, w]
    shift = value.mean((2, 3, 4), keepdim=True)
    value = value - shift  # keeps the difference of mean square and squared mean accurate
    rows = _moments(x.shape[-2], size[0], neighbours, value)
    square = x.shape[-2] == x.shape[-1] and size[0] == size[1]
    columns = rows if square else _moments(x.shape[-1], size[1], neighbours, value)
    with without_autocast(x):
        mean = (value @ columns[0] @ rows[0]).mean(2)
        mean_square = (rows[1] @ value @ columns[1] * value).sum((-2, -1)).mean(2)
    scale = (mean_square - mean * mean + eps).rsqrt()[:, :, None, None, None]
    normalised = ((value - mean[:, :, None, None, None]) * scale).flatten(1, 2)
    return (normalised * weight.to(exact).view(-1, 1, 1) + bias.to(exact).view(-1, 1, 1)).to(x.dtype)


def _moments(p: int, P: int, neighbours: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """Of the matrix U [P, p] that upsamples an axis: its column means [p] and U^T U / P [p, p]."""
    U = interpolation_matrix(P, p, like, neighbours)
    with without_autocast(like):
        return U.mean(0), U.T @ U / P
