"""AnyUp on the CPU without gradients: the image encoders in bands, the query made as it is asked for."""

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops.attention.axis import share
from resfu.ops.attention.cpu import attend
from resfu.ops.layout import memory_format
from resfu.ops.reassembly.workspace import Workspace
from resfu.upsamplers.bands import Sums, bands, convolved, embedded
from resfu.upsamplers.pooling import pooling_matrix

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
        if out is None:  # after the encoders' maps, whose room it takes
            out = torch.empty((B, C, H, W), dtype=features.dtype, memory_format=memory_format(features))
        axes = share(H, h, anyup.window_ratio), share(W, w, anyup.window_ratio)
        scale = 1 / math.sqrt(len(key) // anyup.heads)

        def rows(first: int, last: int, query: Tensor = query) -> Tensor:
            return anyup.projected(_convolved_rows(query, anyup.query_convolution, first, last, space), "query")[0]

        attend(rows, key * scale, features[b], out[b], anyup.heads, *axes, mean=True)
    assert out is not None
    return out


def _encode(
    anyup: "AnyUp", image: Tensor, low: tuple[int, int], size: tuple[int, int], space: Workspace
) -> tuple[Tensor, Tensor]:
    """The query before its last convolution, [H, W, D], and the image's part of the key, [D, h, w]."""
    parts: list[Any] = list(anyup.image_encoder)
    stem, *blocks = parts
    (Hy, Wy), D = image.shape[-2:], stem.out_channels
    x, inner, sums = image.new_empty(Hy, Wy, D), image.new_empty(Hy, Wy, D), Sums()
    for first, last, band in embedded(stem, image):
        _put(x, first, last, band, sums, space)
    _run_blocks(blocks, x, inner, sums, space)
    _place(x, anyup.frequencies, space)
    key = torch.empty_like(x)
    _run_encoder(anyup.key_encoder, x, key, inner, space)
    down, across = pooling_matrix(Hy, low[0], x), pooling_matrix(Wy, low[1], x)
    pooled = x.new_zeros(low[0], low[1] * D)
    for first, last in bands(Hy, Wy):
        pooled.addmm_(down[:, first:last], torch.matmul(across, key[first:last]).flatten(1))
    del key
    _run_encoder(anyup.query_encoder, x, x, inner, space)
    del inner
    if (Hy, Wy) != size:
        x = F.adaptive_avg_pool2d(x.permute(2, 0, 1)[None], size)[0].permute(1, 2, 0).contiguous()
    return x, pooled.view(*low, D).permute(2, 0, 1)


def _run_encoder(encoder: nn.Sequential, x: Tensor, out: Tensor, inner: Tensor, space: Workspace) -> None:
    """Convolution and blocks of x [Hy, Wy, D] into `out`, which may be x."""
    parts: list[Any] = list(encoder)
    stem, *blocks = parts
    sums = Sums()
    for first, last, band in convolved(x, None, stem, space):
        _put(out, first, last, band, sums, space)
    _run_blocks(blocks, out, inner, sums, space)


def _run_blocks(blocks: list, x: Tensor, inner: Tensor, sums: Sums, space: Workspace) -> None:
    """Residual blocks of 1 x 1 convolutions on x [Hy, Wy, D], in place; `inner` holds what lies between two."""
    for block in blocks:
        between = Sums()
        for first, last, band in convolved(x, sums.affine(block.norm1, x), block.conv1, space):
            _put(inner, first, last, band, between, space)
        sums = Sums()
        for first, last, band in convolved(inner, between.affine(block.norm2, inner), block.conv2, space):
            x[first:last] += band
            sums.add(x[first:last], space)


def _put(x: Tensor, first: int, last: int, band: Tensor, sums: Sums, space: Workspace) -> None:
    x[first:last] = band
    sums.add(x[first:last], space)


def _place(x: Tensor, frequencies: Tensor, space: Workspace) -> None:
    """`AnyUp.placed` on [Hy, Wy, D], in place: the cosine of a sum of two angles from those of each."""
    (H, W, D), half = x.shape, x.shape[2] // 2
    places = [torch.arange(P, dtype=torch.float64)[:, None] / max(P - 1, 1) for P in (H, W)]
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


def _convolved_rows(x: Tensor, convolution: nn.Conv2d, first: int, last: int, space: Workspace) -> Tensor:
    """Rows of a 3 x 3 convolution of x [H, W, D] with zeros beyond the border: [1, D, rows, W]."""
    H, W, D = x.shape
    padded = space.take("padded", (last - first + 2, W + 2, D))
    above, below = first == 0, last == H
    padded[:, 0] = padded[:, -1] = 0
    if above:
        padded[0] = 0
    if below:
        padded[-1] = 0
    padded[int(above) : len(padded) - int(below), 1:-1] = x[first - 1 + above : last + 1 - below]
    weight = convolution.weight.contiguous(memory_format=torch.channels_last)
    return F.conv2d(padded.permute(2, 0, 1)[None], weight)
