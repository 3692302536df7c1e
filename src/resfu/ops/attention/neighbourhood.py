"""Neighbourhood attention: each pixel attends to the K x K low-resolution pixels around it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.reassembly import correlate, reassemble


def neighbourhood_attention(
    query: Float[Tensor, "B D H W"], key: Float[Tensor, "B D h w"], values: Float[Tensor, "B C h w"], K: int, heads: int
) -> Float[Tensor, "B C H W"]:
    """Weigh values by the softmax of scores; each head has its own block of channels (NAF, arXiv 2511.18452).

    The window's centre is the low-resolution pixel that contains the centre of the output pixel. At borders the window
    is moved inwards. An axis of fewer than K low-resolution pixels is the window itself.

    Args:
        query: [B, D, H, W].
        key: [B, D, h, w].
        values: [B, C, h, w], summed without a projection.
        K: side of the window, odd.
        heads: number of heads, with D / heads channels of query and key and C / heads of the values each. Scores are
            divided by sqrt(D / heads).

    Returns:
        [B, C, H, W] in the dtype of the values.
    """
    size = (query.shape[-2], query.shape[-1])
    query = query / math.sqrt(query.shape[1] // heads)
    q, k = (x.unflatten(1, (heads, -1)).flatten(0, 1) for x in (query, key))
    scores = correlate(q, k, K, "central", "shift").unflatten(0, (-1, heads)).flatten(1, 2)
    repeated = _repeats(K, values.shape[-2], values.shape[-1], scores.device).repeat(heads, 1, 1)
    scores = scores.masked_fill(repeated, float("-inf"))
    return reassemble(values, scores, size, "central", "shift", groups=heads, softmax=True)


def _repeats(K: int, h: int, w: int, device: torch.device) -> Tensor:
    """Mask [K K, 1, 1] of the window's places that repeat a pixel, if the map has fewer than K rows or columns."""
    place = torch.arange(K, device=device)
    return ((place >= h)[:, None] | (place >= w)).flatten()[:, None, None]
