"""Bilinear values at positions of their own, by whatever computes them fastest."""

from jaxtyping import Float
from torch import Tensor

from resfu.ops.backends import which_backend
from resfu.ops.sampling import operators


def sample(
    x: Float[Tensor, "B C h w"], columns: Float[Tensor, "B G H W"], rows: Float[Tensor, "B G H W"]
) -> Float[Tensor, "B C H W"]:
    """Bilinear values of a map, each group of C / G channels at positions of its own.

    Positions beyond the centres of the outermost pixels are clamped to them. Where a position is NaN, so is the value,
    and no gradient comes from it.

    Args:
        x: the map, in fp32 at least.
        columns: positions along the rows, in pixels of x; 0 is the centre of the first one. Of x's dtype.
        rows: positions down the columns, likewise.
    """
    if which_backend(x) == which_backend(columns) == which_backend(rows) == "numba":
        from resfu.ops.sampling import numba

        if numba.takes(x, columns):
            return numba.sample(x, columns, rows)
    return operators.sample(x, columns, rows)
