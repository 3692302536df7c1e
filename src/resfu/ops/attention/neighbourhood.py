"""Neighbourhood attention: each pixel to the K x K low-resolution pixels around it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.reassembly import correlate, reassemble


def neighbourhood_attention(
    query: Float[Tensor, "B D H W"], key: Float[Tensor, "B D h w"], values: Float[Tensor, "B C h w"], K: int, heads: int
) -> Float[Tensor, "B C H W"]:
    """Weigh values by the softmax of scores, a block of channels a head (NAF, arXiv 2511.18452).

    The window's centre is the low-resolution pixel that holds the centre of the pixel; it is moved inwards at borders.
    In a map of fewer than K pixels the window is the map.

    Args:
        query: [B, D, H, W].
        key: [B, D, h, w].
        values: [B, C, h, w], which are summed as they are.
        K: side of the window, odd.
        heads: blocks of D / heads and of C / heads channels; scores are divided by the root of the former.

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
    """[K K, 1, 1]: places of a window that hold a pixel again, in a map of fewer than K."""
    place = torch.arange(K, device=device)
    return ((place >= h)[:, None] | (place >= w)).flatten()[:, None, None]
