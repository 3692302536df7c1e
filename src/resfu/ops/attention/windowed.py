"""Attention of each pixel to the low-resolution pixels within a share of the map."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from resfu.ops.attention.axis import seen_cells, share
from resfu.ops.grid import central_cell, window
from resfu.ops.precision import without_autocast
from resfu.ops.reassembly import correlate, reassemble

_LARGE = 1 << 24  # scores of all pairs


def windowed_attention(
    query: Float[Tensor, "B D H W"],
    key: Float[Tensor, "B D h w"],
    values: Float[Tensor, "B C h w"],
    heads: int,
    window_ratio: float,
) -> Float[Tensor, "B C H W"]:
    """Weigh values by the mean over heads of the softmax of the heads' scores (AnyUp, arXiv 2510.12764).

    The pixel whose centre lies at u, as a share of the axis, sees the low-resolution pixels from
    floor(h max(u - window_ratio, 0)) up to, without, ceil(h min(u + window_ratio, 1)), cut at the border.

    Args:
        query: [B, D, H, W].
        key: [B, D, h, w].
        values: [B, C, h, w], which are summed as they are.
        heads: number of blocks of D / heads channels; scores are divided by the root of that.
        window_ratio: half the width of the window as a share of the map; 0 for all of it.

    Returns:
        [B, C, H, W] in the dtype of the values.
    """
    low, size = (key.shape[-2], key.shape[-1]), (query.shape[-2], query.shape[-1])
    query = query / math.sqrt(query.shape[1] // heads)
    with without_autocast(query):
        # How far windows reach is a number in the graph, which a graph for any size has not.
        if window_ratio > 0 and not torch.compiler.is_compiling() and heads * math.prod((*size, *low)) > _LARGE:
            reach = max(share(P, p, window_ratio).reach for P, p in zip(size, low, strict=True))
            if reach < max(low) - 1:
                return _in_windows(query, key, values, heads, window_ratio, reach)
        return _masked(query, key, values, heads, window_ratio)


def _masked(query: Tensor, key: Tensor, values: Tensor, heads: int, window_ratio: float) -> Float[Tensor, "B C H W"]:
    """As published: every pixel scored against every low-resolution one, and what it does not see masked."""
    low, size = (key.shape[-2], key.shape[-1]), (query.shape[-2], query.shape[-1])
    rows, columns = (_seen(P, p, window_ratio, query.device) for P, p in zip(size, low, strict=True))
    seen = (rows[:, None, :, None] & columns[:, None, :]).flatten(2).flatten(0, 1)  # [H W, h w]
    q, k = (x.unflatten(1, (heads, -1)).flatten(3) for x in (query, key))
    scores = torch.einsum("bgdp, bgdn -> bgpn", q, k).masked_fill(~seen, float("-inf"))
    out = torch.einsum("bpn, bcn -> bcp", scores.softmax(3).mean(1), values.flatten(2).to(scores.dtype))
    return out.unflatten(2, size).to(values.dtype)


def _in_windows(
    query: Tensor, key: Tensor, values: Tensor, heads: int, window_ratio: float, reach: int
) -> Float[Tensor, "B C H W"]:
    """The same from the low-resolution pixels around each pixel's own."""
    size, K = (query.shape[-2], query.shape[-1]), 2 * reach + 1
    q, k = (x.unflatten(1, (heads, -1)).flatten(0, 1) for x in (query, key))
    scores = correlate(q, k, K, "central", "zero").unflatten(0, (-1, heads))
    rows, columns = (
        _seen_around(P, p, window_ratio, reach).to(query.device) for P, p in zip(size, key.shape[-2:], strict=True)
    )  # [K, P]
    seen = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)
    weights = scores.masked_fill(~seen, float("-inf")).softmax(2).mean(1)
    return reassemble(values, weights, size, "central", "zero")


def _seen(P: int, p: int, window_ratio: float, device: torch.device) -> Bool[Tensor, "P p"]:
    first, last = seen_cells(P, p, window_ratio, device)[:, :, None]
    place = torch.arange(p, device=device)
    return (place >= first) & (place < last)


def _seen_around(P: int, p: int, window_ratio: float, reach: int) -> Bool[Tensor, "K P"]:
    """Which places of the window around each pixel's own low-resolution pixel it sees."""
    first, last = seen_cells(P, p, window_ratio)
    place = central_cell(P, p, "cpu") + torch.tensor(window(2 * reach + 1), device="cpu")[:, None]
    return (place >= first) & (place < last)
