"""Some rows of a reassembly or correlation, at any real ratio, by plain differentiable operators.

The tiles of the fast operators are those of a whole image. Where a band of rows is a whole number of low-resolution
rows, it is an image of its own to them, and `band_of` tells it so; elsewhere the neighbours are read one by one here.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.grid import containing_cell, integer_ratio, lr_cell
from resfu.ops.layout import pad
from resfu.ops.precision import exact_dtype
from resfu.ops.reassembly import operators

Rows = tuple[int, int]


def reassemble_rows(
    features: Float[Tensor, "B C h w"],
    weights: Float[Tensor, "B GKK n W"],
    rows: Rows,
    height: int,
    neighbours: str,
    padding: str,
    groups: int = 1,
) -> Float[Tensor, "B C n W"]:
    """Rows (first, one past the last) of `reassemble` to `height` rows, from the weights of these rows alone."""
    K = round((weights.shape[1] // groups) ** 0.5)
    dtype = exact_dtype(features, weights)
    x, weights = features.to(dtype), weights.to(dtype)
    reach = operators.size(K, neighbours) // 2
    h, w = features.shape[-2:]
    band = _aligned(rows, height, h)
    if band is not None and features.device.type in ("cpu", "cuda"):
        padded = pad(x, reach, reach, padding)[:, :, band[0] : band[1] + 2 * reach]
        out = operators.reassemble(padded, weights, (band[1] - band[0], w), neighbours, groups)
        return out.to(features.dtype)
    by_group = weights.unflatten(1, (groups, K * K))[:, :, :, None]
    total: Tensor | None = None
    for n, value in enumerate(_neighbours(x, K, rows, (height, weights.shape[-1]), neighbours, padding)):
        part = by_group[:, :, n] * value.unflatten(1, (groups, -1))
        total = part if total is None else total + part
    assert total is not None
    return total.flatten(1, 2).to(features.dtype)


def correlate_rows(
    query: Float[Tensor, "B D n W"],
    key: Float[Tensor, "B D h w"],
    kernel_size: int,
    rows: Rows,
    height: int,
    neighbours: str,
    padding: str,
) -> Float[Tensor, "B KK n W"]:
    """Rows (first, one past the last) of `correlate` with a query of `height` rows, of which these are given."""
    dtype = exact_dtype(query, key)
    q, x = query.to(dtype), key.to(dtype)
    band = _aligned(rows, height, key.shape[-2])
    if band is not None and key.device.type in ("cpu", "cuda"):
        reach = operators.size(kernel_size, neighbours) // 2
        padded = pad(x, reach, reach, padding)[:, :, band[0] : band[1] + 2 * reach]
        out = operators.correlate(q, padded, (band[1] - band[0], key.shape[-1]), kernel_size, neighbours)
        return out.to(query.dtype)
    size = (height, query.shape[-1])
    values = _neighbours(x, kernel_size, rows, size, neighbours, padding)
    return torch.stack([(q * value).sum(1) for value in values], 1).to(query.dtype)


def _aligned(rows: Rows, H: int, h: int) -> Rows | None:
    """The low-resolution rows that a band covers, where these are whole."""
    ratio = integer_ratio(H, h)
    if ratio is None or rows[0] % ratio or rows[1] % ratio:
        return None
    return rows[0] // ratio, rows[1] // ratio


def _neighbours(
    x: Tensor, K: int, rows: Rows, size: tuple[int, int], neighbours: str, padding: str
) -> Iterator[Tensor]:
    """What each pixel of the rows sees at each of the K x K places, [B, C, n, W], row-major."""
    reach = K // 2 + 1
    padded = pad(x, reach, reach, padding)
    (H, W), (h, w) = size, x.shape[-2:]
    for oy in range(-(K // 2), K // 2 + 1):
        line = _read(padded, H, h, reach + oy, neighbours, -2, slice(*rows))
        for ox in range(-(K // 2), K // 2 + 1):
            yield _read(line, W, w, reach + ox, neighbours, -1, slice(None))


def _read(x: Tensor, P: int, p: int, offset: int, neighbours: str, dim: int, part: slice) -> Tensor:
    if neighbours == "coarse":
        return x.index_select(dim, containing_cell(P, p, x.device)[part] + offset)
    cell, fraction = lr_cell(P, p, x.device, x.dtype)
    cell, fraction = cell[part] + offset, fraction[part]
    fraction = fraction[:, None] if dim == -2 else fraction
    return torch.lerp(x.index_select(dim, cell), x.index_select(dim, cell + 1), fraction)
