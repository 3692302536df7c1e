"""NAF on the CPU without gradients: image encoder in bands of rows, the query in the output's own memory."""

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops.attention.axis import shifted
from resfu.ops.attention.cpu import attend
from resfu.ops.backends import which_backend
from resfu.ops.layout import memory_format
from resfu.ops.pooling import pooling_matrix
from resfu.ops.reassembly.workspace import Workspace
from resfu.upsamplers.bands import bands, embed, run

if TYPE_CHECKING:
    from resfu.upsamplers.naf import NAF


class Query:
    """The query's rows, stored in the output tensor until the output's same rows are written.

    In fp32, at 256 channels and 448 x 448 pixels, the query takes 205 MB, two thirds of an output of 384 channels.

    Args:
        out: [C, H, W], the output. If it has fewer channels than the query or is not contiguous, other memory is used.
        width: D, number of channels of the query.
    """

    def __init__(self, out: Tensor, width: int) -> None:
        (C, H, W), self._width = out.shape, width
        lends = width <= C and out.is_contiguous()
        self._planes = out[:width] if lends else out.new_empty(width, H, W)

    def room(self, channel: int, E: int) -> Tensor | None:
        """Memory of E channels, as a map [H, W, E] that may be used before they are written; None if scattered."""
        planes = self._planes[channel : channel + E]
        return planes.view(*planes.shape[1:], E) if planes.is_contiguous() else None

    def lends(self, x: Tensor) -> bool:
        """Whether x lies in this memory."""
        return x.untyped_storage().data_ptr() == self._planes.untyped_storage().data_ptr()

    def write(self, first: int, last: int, band: Tensor, channel: int) -> None:
        """Store rows [rows, W, E] as the E channels from `channel` on."""
        rows, W, E = band.shape
        band = band.reshape(rows, E, W).transpose(0, 1)  # the order within a row does not matter: `read` undoes it
        self._planes[channel : channel + E, first:last] = band

    def read(self, first: int, last: int, channel: int, band: Tensor) -> None:
        """Copy stored rows back into `band` [rows, W, E]."""
        rows, W, E = band.shape
        planes = self._planes[channel : channel + E, first:last].transpose(0, 1)
        band.copy_(planes.reshape(rows, W, E))


def upsample(naf: "NAF", features: Tensor, image: Tensor, size: tuple[int, int]) -> Tensor:
    """See `NAF.upsample`."""
    (B, C), (H, W) = features.shape[:2], size
    out = torch.empty((B, C, H, W), dtype=features.dtype, device="cpu", memory_format=memory_format(features))
    for b in range(B):
        _one(naf, features[b], image[b], out[b])
    return out


def _one(naf: "NAF", features: Tensor, image: Tensor, out: Tensor) -> None:
    (h, w), (H, W) = features.shape[-2:], out.shape[-2:]
    space = Workspace(out)
    stacks = (naf.pixel_encoder, naf.context_encoder)
    half = naf.dim // 2
    D = 2 * half
    store = Query(out, D)
    for n, stack in enumerate(stacks):
        _encode(stack, image, (H, W), store, n * half, space)
    angles = naf.angles(D, (H, W), out.device)
    cos, sin = ([f(angle).mT.to(out.dtype) for angle in angles] for f in (torch.cos, torch.sin))  # [P, F] each
    down, across = pooling_matrix(H, h, out.dtype), pooling_matrix(W, w, out.dtype)
    key = out.new_zeros(h, w * D)

    def read(first: int, last: int) -> Tensor:
        query = space.take("query rows", (last - first, W, D))
        for channel in (0, half):
            store.read(first, last, channel, query[..., channel : channel + half])
        return _rotate(query, naf.rope_heads, cos, sin, first, last, space)

    for first, last in bands(H, W):
        query = read(first, last)
        narrow = torch.matmul(across, query)  # [rows, w, D]
        key.addmm_(down[:, first:last], narrow.flatten(1))
    key = key.view(h, w, D).permute(2, 0, 1)
    scale = 1 / math.sqrt(D // naf.heads)
    axes = shifted(H, h, naf.kernel_size), shifted(W, w, naf.kernel_size)
    attend(read, key * scale, features, out, naf.heads, *axes)


def _encode(
    stack: nn.Sequential, image: Tensor, size: tuple[int, int], store: Query, channel: int, space: Workspace
) -> None:
    """Apply one stack of convolutions, pool the result to `size`, and write it into the store."""
    parts: list[Any] = list(stack)
    stem, *blocks = parts
    layers = [layer for block in blocks for layer in ((block.norm1, block.conv1), (block.norm2, block.conv2))]
    (Hy, Wy), E = image.shape[-2:], stem.out_channels
    x = image.new_empty(Hy, Wy, E)
    sums = embed(stem, image, x, space)
    x = run(layers, x, sums, space, store.room(channel, E) if (Hy, Wy) == size else None)
    if (Hy, Wy) != size:
        x = F.adaptive_avg_pool2d(x.permute(2, 0, 1)[None], size)[0].permute(1, 2, 0)
    elif store.lends(x):
        x = x.clone()
    for first, last in bands(*size):
        store.write(first, last, x[first:last], channel)


def _rotate(
    query: Tensor, heads: int, cos: list[Tensor], sin: list[Tensor], first: int, last: int, space: Workspace
) -> Tensor:
    """`rotation.rotate` on rows [rows, W, D], which may be overwritten."""
    if which_backend(query) == "numba":
        from resfu.upsamplers import naf_numba

        naf_numba.rotate(query, heads, cos, sin, first)
        return query
    rows, W, D = query.shape
    angles = []
    for name, (of_row, of_column) in (("cos", cos), ("sin", sin)):
        table = space.take(name, (rows, W, 1, D // heads // 2))
        table[..., 0, : of_row.shape[1]] = of_row[first:last, None]
        table[..., 0, of_row.shape[1] :] = of_column
        angles.append(table)
    a, b = query.unflatten(2, (heads, 2, -1)).unbind(3)
    turned = space.take("rotated", (rows, W, D))
    c, d = turned.unflatten(2, (heads, 2, -1)).unbind(3)
    torch.mul(a, angles[0], out=c)
    c.addcmul_(b, angles[1], value=-1)
    torch.mul(b, angles[0], out=d)
    d.addcmul_(a, angles[1])
    return turned
