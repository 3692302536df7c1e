"""Bilinear sampling at given positions, by the fastest backend."""

from jaxtyping import Float
from torch import Tensor

from resfu.ops.backends import which_backend
from resfu.ops.checks import check_divides
from resfu.ops.sampling import operators


def sample(
    x: Float[Tensor, "B C h w"], columns: Float[Tensor, "B G H W"], rows: Float[Tensor, "B G H W"]
) -> Float[Tensor, "B C H W"]:
    """Sample a map bilinearly; each group of C / G channels has positions of its own.

    Positions beyond the centres of the outermost pixels are clamped to them. Where a position is NaN, the value is NaN
    too and gives no gradient.

    Args:
        x: [B, C, h, w], the map, in at least fp32.
        columns: [B, G, H, W], horizontal positions in pixels of x, in x's dtype; 0 is the centre of the first column.
        rows: [B, G, H, W], vertical positions, in the same way.

    Raises:
        ValueError: if G does not divide C (a RuntimeError where PyTorch's operators compute it).
    """
    if which_backend(x) == which_backend(columns) == which_backend(rows) == "numba":
        from resfu.ops.sampling import numba

        if numba.takes(x, columns):
            check_divides("the number of positions of a pixel", columns.shape[1], "the width of x", x.shape[1])
            return numba.sample(x, columns, rows)
    return operators.sample(x, columns, rows)
