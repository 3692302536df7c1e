"""Windowed attention: each pixel attends to the low-resolution pixels within a given share of the map's size."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from resfu.ops.attention.axis import seen_cells, share
from resfu.ops.grid import central_cell, window
from resfu.ops.precision import without_autocast
from resfu.ops.reassembly import correlate, reassemble

_LARGE = 1 << 24  # number of scores from which windows are read instead of masking all pairs


def windowed_attention(
    query: Float[Tensor, "B D H W"],
    key: Float[Tensor, "B D h w"],
    values: Float[Tensor, "B C h w"],
    heads: int,
    window_ratio: float,
) -> Float[Tensor, "B C H W"]:
    """Weigh values by the mean over heads of the softmax of the heads' scores (AnyUp, arXiv 2510.12764).

    If u is the position of a pixel's centre as a share of the axis, the pixel attends to the low-resolution pixels from
    floor(h max(u - window_ratio, 0)) to ceil(h min(u + window_ratio, 1)) - 1. Windows are cut at the border.

    Args:
        query: [B, D, H, W].
        key: [B, D, h, w].
        values: [B, C, h, w], summed without a projection.
        heads: number of heads, with D / heads channels each. Scores are divided by sqrt(D / heads).
        window_ratio: half the width of the window as a share of the map; 0 makes the whole map the window.

    Returns:
        [B, C, H, W] in the dtype of the values.
    """
    low, size = (key.shape[-2], key.shape[-1]), (query.shape[-2], query.shape[-1])
    query = query / math.sqrt(query.shape[1] // heads)
    with without_autocast(query):
        # The reach of the windows would be a constant in a compiled graph, but a graph for dynamic sizes has none.
        if window_ratio > 0 and not torch.compiler.is_compiling() and heads * math.prod((*size, *low)) > _LARGE:
            reach = max(share(P, p, window_ratio).reach for P, p in zip(size, low, strict=True))
            if reach < max(low) - 1:
                return _in_windows(query, key, values, heads, window_ratio, reach)
        return _masked(query, key, values, heads, window_ratio)


def _masked(query: Tensor, key: Tensor, values: Tensor, heads: int, window_ratio: float) -> Float[Tensor, "B C H W"]:
    """Score every pixel against all low-resolution pixels and mask those outside its window, as the published code."""
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
    """The same result, computed from windows around each pixel's own low-resolution pixel."""
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
    """Which places in the window around its own low-resolution pixel each pixel attends to."""
    first, last = seen_cells(P, p, window_ratio)
    place = central_cell(P, p, "cpu") + torch.tensor(window(2 * reach + 1), device="cpu")[:, None]
    return (place >= first) & (place < last)
