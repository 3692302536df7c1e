"""Reassembly as its equation reads. Slow, any device, any dtype: the specification and the oracle."""

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.grid import containing_cell, lr_position, sample, window
from resfu.ops.layout import pad


def reassemble(
    features: Float[Tensor, "B C h w"],
    weights: Float[Tensor, "B GKK H W"],
    neighbours: str,
    padding: str,
    groups: int,
) -> Float[Tensor, "B C H W"]:
    """out[b, c, p, q] = sum over n of weights[b, n, p, q] * value_n[b, c, p, q], n = iy * K + ix."""
    H, W = weights.shape[-2:]
    K = round((weights.shape[1] // groups) ** 0.5)
    per_channel = weights.unflatten(1, (groups, K * K)).repeat_interleave(features.shape[1] // groups, dim=1)
    total = torch.zeros_like(features[..., :1, :1]) * weights[:, :1]
    for n, (oy, ox) in enumerate((oy, ox) for oy in window(K) for ox in window(K)):
        total = total + per_channel[:, :, n] * neighbour(features, (H, W), oy, ox, K, neighbours, padding)
    return total


def correlate(
    query: Float[Tensor, "B D H W"], key: Float[Tensor, "B D h w"], K: int, neighbours: str, padding: str
) -> Float[Tensor, "B KK H W"]:
    """score[b, n, p, q] = sum over c of query[b, c, p, q] * value_n[b, c, p, q], n = iy * K + ix."""
    H, W = query.shape[-2:]
    offsets = [(oy, ox) for oy in window(K) for ox in window(K)]
    return torch.stack([(query * neighbour(key, (H, W), *o, K, neighbours, padding)).sum(1) for o in offsets], 1)


def neighbour(
    x: Float[Tensor, "B C h w"], size: tuple[int, int], oy: int, ox: int, K: int, neighbours: str, padding: str
) -> Float[Tensor, "B C H W"]:
    """The value that HR pixel (p, q) sees at offset (oy, ox), in LR pixels ("dense": in HR pixels)."""
    (h, w), (H, W) = x.shape[-2:], size
    margin = K // 2 + (neighbours == "fine")  # bilinear sampling reads one pixel beyond the window
    padded = pad(x, margin, margin, padding)
    if neighbours == "fine":
        rows, columns = lr_position(H, h, x.device) + oy, lr_position(W, w, x.device) + ox
        return sample(padded, rows + margin, columns + margin)
    rows, columns = containing_cell(H, h, x.device) + oy, containing_cell(W, w, x.device) + ox
    return padded.index_select(-2, rows + margin).index_select(-1, columns + margin)
