"""The similarity scores by compiled kernels, for paired central differences in fp32 on the CPU.

Hidden channels live in tiles of 32 pixels and are never written: GroupNorm's groups are scored apart, 72 numbers a
pixel instead of 128, and joined when its statistics are known. Backward computes them again.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from resfu.ops.compiled.threads import run, scratch
from resfu.ops.compiled.tile import PIXELS
from resfu.ops.grid import interpolation_matrix
from resfu.ops.similarity import numba_kernels as kernels
from resfu.ops.similarity import operators
from resfu.ops.similarity.compressor import Compressor

_MOST = 1 << 23  # partial scores held at once: 32 MB


class Columns(NamedTuple):
    """Where the pixels of an axis lie between those of a low-resolution map with a border of one pixel.

    Attributes:
        above: [P] the first of the two.
        between: [P] how far to the second.
        start: [T] the first column of a tile.
        weights: [T, J, 32] how much each column counts for each pixel.
    """

    above: Tensor
    between: Tensor
    start: Tensor
    weights: Tensor


@lru_cache(maxsize=64)
def columns(P: int, p: int, neighbours: str) -> Columns:
    """Of P pixels over p."""
    U = interpolation_matrix(P, p, torch.empty(0, dtype=torch.float32, device="cpu"), neighbours, 1)  # [P, p + 2]
    above = (U != 0).int().argmax(1).clamp(max=p)
    between = U.gather(1, above[:, None] + 1)[:, 0]
    tiles = -(-P // PIXELS)
    starts = above[::PIXELS]
    last = torch.tensor([int(above[min((t + 1) * PIXELS, P) - 1]) + 1 for t in range(tiles)], device="cpu")
    J = -(-int((last - starts).max() + 1) // kernels.FEW) * kernels.FEW
    wide = torch.nn.functional.pad(U, (0, J, 0, tiles * PIXELS - P))
    weights = torch.stack(
        [wide[t * PIXELS : (t + 1) * PIXELS, int(start) : int(start) + J].T for t, start in enumerate(starts)]
    )
    return Columns(above, between, starts.clone(), weights.contiguous())


class Layers(NamedTuple):
    """Weights as the kernels read them: first [G, L, m], bias [M], second [G, m, m], second_bias [M]."""

    first: Tensor
    bias: Tensor
    second: Tensor
    second_bias: Tensor


class Maps:
    """A query and a key as the kernels read them.

    Args:
        key: [B, D, H, W], or convolved on the LR map, [B, h + 2, w + 2, M].
        query: [B, D, H, W].
        step: (h, w).
        neighbours: how an LR key is read.
        groups: G.
        is_low: whether the key lies on the LR map.
    """

    def __init__(
        self, key: Tensor, query: Tensor, step: tuple[int, int], neighbours: str, groups: int, is_low: bool
    ) -> None:
        (B, D, H, W), (h, w) = query.shape, step
        self.size, self.shape, self.groups = (H, W), query.shape, groups
        self.is_low = is_low
        self.reach = (0, 0) if self.is_low else (H // h, W // w)
        rows, cols = self.reach
        self.stride = -(-W // PIXELS) * PIXELS + 2 * cols
        self.height = H + 2 * rows
        maps = [query] if self.is_low else [key, query]
        self.planes = query.new_empty((B, len(maps) * D, self.height, self.stride))
        for b in range(B):
            for n, x in enumerate(maps):
                self._pad(x[b], self.planes[b, n * D : (n + 1) * D])
        self.low = key.contiguous() if self.is_low else self.planes
        vertical = columns(H, h, neighbours) if self.is_low else columns(1, 1, "fine")
        self.rows = vertical
        self.columns = columns(W, w, neighbours) if self.is_low else vertical
        self.table = self._table(D, groups)

    def _pad(self, x: Tensor, out: Tensor) -> None:
        x, (H, W) = x.contiguous(), self.size
        flat = x.view(-1).numpy(), out.view(-1).numpy()
        run(
            lambda first, last, _: kernels.padded_planes(first, last, flat[0], H, W, *self.reach, flat[1], self.stride),
            len(x),
        )

    def _table(self, D: int, groups: int) -> Tensor:
        """Where the inputs of a tile lie from its first pixel's top left tap on, then the number of planes."""
        d, area = D // groups, self.height * self.stride
        (rows, cols), places = self.reach, []
        if not self.is_low:
            places = [
                channel * area + y * rows * self.stride + x * cols
                for y in range(3)
                for x in range(3)
                for channel in range(d)
            ]
        begin = 0 if self.is_low else D * area + rows * self.stride + cols
        places += [begin + channel * area for channel in range(d)]
        return torch.tensor([*places, self.planes.shape[1]], dtype=torch.int64)


def similarity_scores(
    key: Tensor,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    compressor: Compressor,
    step: tuple[int, int],
    neighbours: str,
) -> Tensor:
    """The scores of maps that `operators.compiles` allows. See `api.similarity_scores`."""
    groups, dilated = query.shape[1] // weight.shape[1], key.shape[-2:] == query.shape[-2:]
    if not dilated:
        key = operators.convolved_key(key, weight).movedim(1, 3).flatten(3)  # [B, h + 2, w + 2, M]
    maps = Maps(key, query, step, neighbours, groups, not dilated)
    return forward(maps, pack(weight, bias, compressor, groups, dilated), compressor)[0]


def pack(weight: Tensor, bias: Tensor, compressor: Compressor, groups: int, dilated: bool) -> Layers:
    """The parameters in the kernels' order, differentiably."""
    M, d, K, _ = weight.shape
    by_tap = weight.reshape(groups, M // groups, d, K * K).permute(0, 3, 2, 1)  # [G, K K, d, m]
    centre = -by_tap.sum(1, keepdim=True)
    first = torch.cat([by_tap, centre], 1) if dilated else centre
    second = compressor.reduce_weight.reshape(groups, M // groups, M // groups).mT
    return Layers(first.flatten(1, 2).contiguous(), bias, second.contiguous(), compressor.reduce_bias)


def forward(maps: Maps, layers: Layers, c: Compressor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [B, 9, H, W], and the mean and the inverse deviation of GroupNorm's groups, [B, norm groups] in fp64."""
    B, (H, W), M, N = maps.shape[0], maps.size, c.norm_weight.shape[0], c.norm_groups
    out = maps.planes.new_empty((B, kernels.COUNT, H, W))
    tiles = -(-W // PIXELS)
    at_once = max(1, _MOST // (H * tiles * N * kernels.COUNT * PIXELS))
    weighted = (c.score_weight.flatten(1) * c.norm_weight).T.contiguous()  # [M, 9]
    partial = maps.planes.new_empty((min(B, at_once), H, tiles, N, kernels.COUNT, PIXELS))
    space, statistics = scratch(PIXELS), []
    for first in range(0, B, at_once):
        last = min(B, first + at_once)
        sums = _partial(maps, layers, weighted, partial, first, last, N)
        mean, inverse = _statistics(sums, H * W, N, c.eps)
        statistics.append((mean, inverse))
        shift = c.score_bias.double() + c.score_weight.flatten(1).double() @ c.norm_bias.double()
        moved = mean * inverse @ weighted.double().unflatten(0, (N, -1)).sum(1)
        arrays = [_flat(t) for t in (partial, inverse.float(), (shift - moved).float(), out[first:last])]
        run(
            lambda a, b, thread, arrays=arrays: kernels.total_scores(
                a, b, H, W, arrays[0], N, *arrays[1:], maps.table.numpy(), space, thread * PIXELS
            ),
            (last - first) * H,
        )
    mean, inverse = (torch.cat(each) for each in zip(*statistics, strict=True))
    return out, mean, inverse


def _partial(
    maps: Maps, layers: Layers, weighted: Tensor, partial: Tensor, first: int, last: int, norm_groups: int
) -> Tensor:
    """Fills the partial scores of some images; the sums of their hidden channels, [images, 2, M] in fp64."""
    (H, W), M = maps.size, len(layers.bias)
    sums = maps.planes.new_empty((last - first, H, 2, M))
    arguments = _arguments(maps, layers, first, last)
    m, J = M // maps.groups, arguments[-2]
    size = PIXELS + 3 * m * PIXELS + maps.is_low * (maps.low.shape[2] + J) * M
    space = scratch(size)
    results = _flat(partial), _flat(sums)
    weights = _flat(weighted)
    head, tail = arguments[:10], arguments[10:]

    def task(a: int, b: int, thread: int) -> None:
        kernels.partial_scores(a, b, H, W, *head, weights, norm_groups, *tail, *results, space, thread * size + PIXELS)

    run(task, (last - first) * H)
    return sums.sum(1, dtype=torch.float64)


def _arguments(maps: Maps, layers: Layers, first: int, last: int) -> tuple:
    """What the kernels over tiles have in common: planes to second_bias, then G to start_column."""
    low = maps.low[first:last] if maps.is_low else maps.low
    h1, w1 = maps.low.shape[1:3]
    J = maps.columns.weights.shape[1]
    return (
        _flat(maps.planes[first:last]), maps.shape[1], maps.height, maps.stride, maps.table.numpy(),
        layers.first.shape[1], *(_flat(t) for t in layers),
        maps.groups, len(layers.bias), _flat(low), int(maps.is_low), h1, w1, maps.rows.above.numpy(),
        maps.rows.between.numpy(), _flat(maps.columns.weights), J, maps.columns.start.numpy(),
    )  # fmt: skip


def _statistics(sums: Tensor, pixels: int, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    total, square = (t.unflatten(1, (groups, -1)).sum(2) for t in sums.unbind(1))
    count = pixels * sums.shape[2] // groups
    mean = total / count
    return mean, ((square / count - mean * mean).clamp(min=0) + eps).rsqrt()


def _flat(x: Tensor):
    return x.detach().contiguous().view(-1).numpy()
