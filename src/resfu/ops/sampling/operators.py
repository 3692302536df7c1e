"""Bilinear sampling at given positions, by PyTorch's operators."""

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.backends import operators_are_recorded


def sample(x: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """See `resfu.ops.sampling.sample`.

    NaN positions are replaced before grid_sample: on the CPU it reads the first pixel for them, and its backward pass
    crashes the process.
    """
    h, w = x.shape[-2:]
    # grid_sample's coordinates run from -1 to 1 between the outer edges of the map.
    positions = torch.stack([(2 * columns + 1) / w - 1, (2 * rows + 1) / h - 1], -1).flatten(0, 1)
    nowhere = (columns.isnan() | rows.isnan()).flatten(0, 1)
    blocks = x.unflatten(1, (columns.shape[1], -1)).flatten(0, 1)
    positions = positions.masked_fill(nowhere[..., None], 0)
    out = F.grid_sample(blocks, positions, mode="bilinear", padding_mode="border", align_corners=False)
    may_look = x.device.type == "cpu" and not operators_are_recorded(x, columns, rows)
    if not may_look or nowhere.any():
        out = out.masked_fill(nowhere[:, None], float("nan"))
    return out.unflatten(0, (-1, columns.shape[1])).flatten(1, 2)
