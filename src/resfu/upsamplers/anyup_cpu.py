"""AnyUp on the CPU without gradients: image encoders in bands of rows, and the query computed a few rows at a time."""

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops.attention.axis import share
from resfu.ops.attention.cpu import attend
from resfu.ops.backends import which_backend
from resfu.ops.layout import memory_format
from resfu.ops.pooling import pooling_matrix
from resfu.ops.reassembly.workspace import Workspace
from resfu.upsamplers.bands import Sums, bands, embed, layer

if TYPE_CHECKING:
    from resfu.upsamplers.anyup import AnyUp


def upsample(anyup: "AnyUp", features: Tensor, image: Tensor, size: tuple[int, int]) -> Tensor:
    """See `AnyUp.upsample`."""
    (B, C), (h, w), (H, W) = features.shape[:2], features.shape[-2:], size
    out = None
    space = Workspace(features)
    for b in range(B):
        query, image_key = _encode(anyup, image[b], (h, w), size, space)
        key = anyup.key(image_key[None], features[b : b + 1])[0]
        if out is None:  # allocated after the encoders' maps are freed, so that it reuses their memory
            out = torch.empty((B, C, H, W), dtype=features.dtype, device="cpu", memory_format=memory_format(features))
        axes = share(H, h, anyup.window_ratio), share(W, w, anyup.window_ratio)
        scale = 1 / math.sqrt(len(key) // anyup.heads)

        def rows(first: int, last: int, query: Tensor = query) -> Tensor:
            return _projected(anyup, query[first:last])

        attend(rows, key * scale, features[b], out[b], anyup.heads, *axes, mean=True)
    assert out is not None
    return out


def _projected(anyup: "AnyUp", query: Tensor) -> Tensor:
    """Rows of the query [rows, W, D], normalised and projected."""
    if which_backend(query) == "numba":
        from resfu.ops.layers.numba import projected

        weight, bias = (t.detach().chunk(2)[0] for t in (anyup.query_and_key.weight, anyup.query_and_key.bias))
        return projected(query, anyup.query_norm, weight, bias)
    return anyup.projected(query.permute(2, 0, 1)[None], "query")[0]


def _encode(
    anyup: "AnyUp", image: Tensor, low: tuple[int, int], size: tuple[int, int], space: Workspace
) -> tuple[Tensor, Tensor]:
    """The query [H, W, D], before it is normalised and projected, and the image's part of the key, [D, h, w]."""
    parts: list[Any] = list(anyup.image_encoder)
    stem, *blocks = parts
    (Hy, Wy), D = image.shape[-2:], stem.out_channels
    x, inner = image.new_empty(Hy, Wy, D), image.new_empty(Hy, Wy, D)
    _run_blocks(blocks, x, inner, embed(stem, image, x, space), space)
    _place(x, anyup.frequencies, space)
    key = torch.empty_like(x)
    _run_encoder(anyup.key_encoder, x, key, inner, space)
    down, across = pooling_matrix(Hy, low[0], x.dtype), pooling_matrix(Wy, low[1], x.dtype)
    pooled = x.new_zeros(low[0], low[1] * D)
    for first, last in bands(Hy, Wy):
        pooled.addmm_(down[:, first:last], torch.matmul(across, key[first:last]).flatten(1))
    del key
    _run_encoder(anyup.query_encoder, x, x, inner, space)
    if (Hy, Wy) != size:
        del inner
        x = F.adaptive_avg_pool2d(x.permute(2, 0, 1)[None], size)[0].permute(1, 2, 0).contiguous()
        inner = torch.empty_like(x)
    layer(x, None, anyup.query_convolution, inner, space, mirrored=False)
    return inner, pooled.view(*low, D).permute(2, 0, 1)


def _run_encoder(encoder: nn.Sequential, x: Tensor, out: Tensor, inner: Tensor, space: Workspace) -> None:
    """Apply an encoder (a convolution and residual blocks) to x [Hy, Wy, D], into `out`, which may be x."""
    parts: list[Any] = list(encoder)
    stem, *blocks = parts
    _run_blocks(blocks, out, inner, layer(x, None, stem, out, space), space)


def _run_blocks(blocks: list, x: Tensor, inner: Tensor, sums: Sums, space: Workspace) -> None:
    """Apply residual blocks to x [Hy, Wy, D], in place; `inner` holds the result of a block's first convolution."""
    for block in blocks:
        between = layer(x, sums.affine(block.norm1, x), block.conv1, inner, space)
        sums = layer(inner, between.affine(block.norm2, inner), block.conv2, x, space, add=True)


def _place(x: Tensor, frequencies: Tensor, space: Workspace) -> None:
    """`AnyUp.placed` on [Hy, Wy, D], in place; cos(a + b) and sin(a + b) come from the cosines and sines of a and b."""
    (H, W, D), half = x.shape, x.shape[2] // 2
    places = [torch.arange(P, dtype=torch.float64, device=x.device)[:, None] / max(P - 1, 1) for P in (H, W)]
    angles = [place * frequency.double() for place, frequency in zip(places, frequencies, strict=True)]
    (row_cos, column_cos), (row_sin, column_sin) = (
        [f(angle).to(x.dtype) for angle in angles] for f in (torch.cos, torch.sin)
    )
    for first, last in bands(H, W):
        band, part = x[first:last], slice(first, last)
        cos = torch.mul(row_cos[part, None], column_cos, out=space.take("cos", (last - first, W, D)))
        cos.addcmul_(row_sin[part, None], column_sin, value=-1)
        sin = torch.mul(row_sin[part, None], column_cos, out=space.take("sin", (last - first, W, D)))
        sin.addcmul_(row_cos[part, None], column_sin)
        old = space.copy("unplaced", band)
        torch.mul(old, cos, out=band)
        band[..., :half].addcmul_(old[..., half:], sin[..., :half], value=-1)
        band[..., half:].addcmul_(old[..., :half], sin[..., half:])
