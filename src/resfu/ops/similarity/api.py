"""Similarity between each pixel of a query and its neighbours in a key, one low-resolution pixel apart."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.grid import in_bands, key_at, row_bands, window
from resfu.ops.reassemble.api import correlate, which_backend
from resfu.ops.similarity import cpu, reference

SIMILARITIES = ("pcdc", "concat", "inner_product")
_BAND_ELEMENTS = 1 << 20  # of a hidden map: 4 MB in fp32


class Compressor(NamedTuple):
    """Parameters of the two layers that turn hidden channels M into scores: 1 x 1 convolution, GroupNorm, another.

    Shapes: reduce_weight [M, M / G, 1, 1], reduce_bias [M], norm_weight [M], norm_bias [M],
    score_weight [K K, M, 1, 1], score_bias [K K]; norm_groups and eps are GroupNorm's.
    """

    reduce_weight: Tensor
    reduce_bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    score_weight: Tensor
    score_bias: Tensor
    norm_groups: int = 8
    eps: float = 1e-5


def similarity_scores(
    key: Tensor,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    step: tuple[int, int],
    similarity: str = "pcdc",
    neighbours: str = "fine",
    backend: str = "auto",
) -> Tensor:
    """Score the K x K neighbours of every pixel (ReSFU, arXiv 2407.02283, Eq. 11 and the compressor after it).

    "pcdc" convolves the paired central difference, v[p] = sum_n w_n (key[p + o_n] - query[p]) + bias; "concat" the
    concatenation of query and key. Then ReLU, 1 x 1 convolution, ReLU, GroupNorm, 1 x 1 convolution to K K scores.

    Args:
        key: [B, D, h, w] on the LR map (read bilinearly), or [B, D, H, W].
        query: [B, D, H, W].
        weight: [M, D / G, K, K] for "pcdc", [M, 2 D / G, K, K] for "concat" (in each group the query's channels first).
        bias: [M].
        compressor: the layers that follow.
        step: (h, w), the size of the LR map: o_n counts its pixels, at any real ratio.
        similarity: "pcdc" or "concat".
        neighbours: how an LR key is read: "fine" bilinearly at the pixel's own position, "coarse" in its LR pixel.
        backend: as in `reassemble`; all but "reference" run the same PyTorch operators here.

    Returns:
        [B, K * K, H, W], n = iy K + ix.

    Raises:
        ValueError: for an unknown similarity or a backend that can't run here.
    """
    if similarity not in ("pcdc", "concat"):
        raise ValueError(f"similarity must be pcdc or concat, got {similarity!r}.")
    name = "paired_central_difference" if similarity == "pcdc" else "concatenation"
    if which_backend(query, backend) == "reference":
        v = getattr(reference, name)(key, query, weight, bias, step, neighbours)
        hidden = _hidden(v, compressor)
        return _scores(hidden, compressor)
    query = query.contiguous(memory_format=torch.channels_last)
    rows = getattr(cpu, name)(key, query, weight, bias, step, neighbours)
    B, M, (H, W) = query.shape[0], weight.shape[0], query.shape[-2:]
    if not in_bands(query):
        return _scores(_hidden(rows(0, H), compressor), compressor)
    total = square = torch.zeros((B, M), dtype=torch.float64, device=query.device)
    hidden = []
    for first, last in row_bands(query, max(1, _BAND_ELEMENTS // (B * M * W))):
        band = _hidden(rows(first, last), compressor)
        hidden.append(band)
        flat = band.permute(0, 2, 3, 1).flatten(1, 2).to(torch.promote_types(band.dtype, torch.float32))
        total = total + flat.sum(1).double()
        square = square + (flat * flat).sum(1).double()
    scale, shift = _statistics(total, square, H * W, compressor)
    weight, bias = compressor.score_weight, compressor.score_bias
    images = []
    for b in range(B):  # the normalisation folded into the last convolution
        scaled = (weight * scale[b].view(1, -1, 1, 1)).to(query.dtype)
        shifted = (bias + weight.flatten(1).to(shift.dtype) @ shift[b]).to(query.dtype)
        images.append(torch.cat([F.conv2d(band[b : b + 1], scaled, shifted) for band in hidden], 2))
    return images[0] if B == 1 else torch.cat(images)


def inner_product_scores(
    key: Tensor,
    query: Tensor,
    kernel_size: int,
    step: tuple[int, int],
    neighbours: str = "fine",
    backend: str = "auto",
) -> Tensor:
    """s_n[p] = <query[p], key[p + o_n]> (Table VI a).

    Args:
        key: [B, D, h, w] on the LR map, or [B, D, H, W].
        query: [B, D, H, W].
        kernel_size: K, odd.
        step: (h, w), the size of the LR map.
        neighbours: how an LR key is read, as in `similarity_scores`.
        backend: as in `reassemble`; all but "reference" run the same PyTorch operators here.

    Returns:
        [B, K * K, H, W].
    """
    size = (query.shape[-2], query.shape[-1])
    if tuple(key.shape[-2:]) != size:
        return correlate(query, key, kernel_size, neighbours, "replicate", backend)
    offsets = [(oy, ox) for oy in window(kernel_size) for ox in window(kernel_size)]
    return torch.stack([(query * key_at(key, size, step, o)).sum(1) for o in offsets], 1)


def _hidden(v: Tensor, c: Compressor) -> Tensor:
    groups = v.shape[1] // c.reduce_weight.shape[1]
    return F.conv2d(v.relu_(), c.reduce_weight, c.reduce_bias, groups=groups).relu_()


def _scores(hidden: Tensor, c: Compressor) -> Tensor:
    return F.conv2d(
        F.group_norm(hidden, c.norm_groups, c.norm_weight.to(hidden.dtype), c.norm_bias.to(hidden.dtype), c.eps),
        c.score_weight,
        c.score_bias,
    )


def _statistics(total: Tensor, square: Tensor, pixels: int, c: Compressor) -> tuple[Tensor, Tensor]:
    """GroupNorm with its affine as a scale and a shift per image and channel, [B, M], from the sums over pixels."""
    M = total.shape[1]
    count = pixels * M // c.norm_groups
    mean = total.unflatten(1, (c.norm_groups, -1)).sum(2, keepdim=True) / count
    variance = square.unflatten(1, (c.norm_groups, -1)).sum(2, keepdim=True) / count - mean * mean
    scale = (variance.clamp(min=0) + c.eps).rsqrt() * c.norm_weight.double().view(c.norm_groups, -1)
    shift = c.norm_bias.double().view(c.norm_groups, -1) - mean * scale
    return scale.flatten(1), shift.flatten(1)
