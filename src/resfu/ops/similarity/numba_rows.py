"""Some rows of the scores by compiled kernels, with statistics that come from elsewhere.

`numba.py` scores a whole image. Here the image is seen some rows at a time, twice: `moments` sums the hidden channels,
and once the sums of all rows are known, `scores` finishes the rows.
"""

import torch
from torch import Tensor

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import PIXELS
from resfu.ops.reassembly.workspace import Workspace
from resfu.ops.similarity import numba_kernels as kernels
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.similarity.numba_low import enlarged_room
from resfu.ops.similarity.numba_maps import Array, columns, pack, places, taps

_ROWS = 16  # at once: their partial scores are 72 numbers a pixel

Rows = tuple[int, int]


class RowScores:
    """The scores of paired central differences on an H x W image over an h x w map, for no gradients.

    Args:
        weight: [M, D / G, 3, 3].
        bias: [M].
        compressor: the layers that follow.
        size: (H, W).
        low: (h, w).
        dim: D.
        is_low: whether the key lies on the low-resolution map, convolved.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        compressor: Compressor,
        size: tuple[int, int],
        low: tuple[int, int],
        dim: int,
        is_low: bool,
    ) -> None:
        (H, W), (h, w), self._groups = size, low, dim // weight.shape[1]
        self._dim, self._width, self._pixels, self._is_low, self._compressor = dim, W, H * W, is_low, compressor
        self._taps = None if is_low else taps(size, low)
        self._layers = pack(weight, bias, compressor, self._groups, self._taps)
        self.reach = (0, 0) if self._taps is None else self._taps.reach
        self.planes = dim if is_low else 2 * dim
        self._stride = -(-W // PIXELS) * PIXELS + 2 * self.reach[1]
        self._rows = columns(H, h, "fine") if is_low else columns(1, 1, "fine")
        self._columns = columns(W, w, "fine") if is_low else self._rows
        self._weighted = (compressor.score_weight.flatten(1) * compressor.norm_weight).T.contiguous()  # [M, 9]

    def room(self, space: Workspace, name: str, images: int, rows: int) -> tuple[Tensor, Tensor]:
        """Planes for some rows and as many beyond them as taps reach: all of them, and their columns in the image.

        Both [B, planes, rows + 2 reach, ...]: the key's planes, where it has the image's size, then the query's.
        """
        height, left = rows + 2 * self.reach[0], self.reach[1]
        planes = space.take(name, (images, self.planes, height, self._stride))
        return planes, planes[..., left : left + self._width]

    def moments(self, planes: Tensor, rows: Rows, key: Tensor | None, space: Workspace) -> Tensor:
        """The sums of GroupNorm's groups of hidden channels and of their squares, [2, B, norm groups] in fp64.

        Args:
            planes: see `room`.
            rows: of the image, (first, one past the last).
            key: [B, h + 2, M, w + 2], convolved; None where it has the image's size.
            space: memory.
        """
        images = []
        for b in range(len(planes)):
            low = None if key is None else key[b]
            parts = [self._partial(planes[b], rows, part, low, space)[1] for part in _parts(rows)]
            images.append(torch.stack(parts).sum(0))
        return torch.stack(images, 1)

    def scores(
        self, planes: Tensor, rows: Rows, key: Tensor | None, total: Tensor, space: Workspace, out: Tensor
    ) -> None:
        """Add the scores to `out` [B, 9, rows, W], given the moments of all rows of the image, [2, B, norm groups]."""
        c, N = self._compressor, self._compressor.norm_groups
        mean, inverse = _statistics(total, self._pixels * len(self._weighted) // N, c.eps)
        shift = c.score_bias.double() + c.score_weight.flatten(1).double() @ c.norm_bias.double()
        moved = mean * inverse @ self._weighted.double().unflatten(0, (N, -1)).sum(1)
        for b in range(len(planes)):
            given = flat(inverse[b].float()), flat((shift - moved[b]).float())
            for part in _parts(rows):
                partial, _ = self._partial(planes[b], rows, part, None if key is None else key[b], space)
                count = part[1] - part[0]
                found = space.take("scores of a part", (kernels.COUNT, count, self._width))
                room, target, source = scratch(PIXELS), flat(found), flat(partial)
                table = self._table(planes.shape[2])
                arguments = count, self._width, source, N, *given, target, table, room
                run(kernels.total_scores, count, *arguments)
                out[b, :, part[0] - rows[0] : part[1] - rows[0]] += found

    def _partial(
        self, planes: Tensor, rows: Rows, part: Rows, key: Tensor | None, space: Workspace
    ) -> tuple[Tensor, Tensor]:
        """The scores of GroupNorm's groups apart, of some rows of an image; and their moments, [2, groups] in fp64."""
        (first, last), H, W = part, part[1] - part[0], self._width
        M, N, tiles = len(self._layers.bias), self._compressor.norm_groups, -(-W // PIXELS)
        partial = space.take("partial scores", (H, tiles, N, kernels.COUNT, PIXELS))
        sums = space.take("sums", (H, 2, N))
        height = planes.shape[1]
        low = planes if key is None else key
        h1, w1 = (low.shape[0], low.shape[2]) if key is not None else (1, 1)
        m = M // self._groups
        size = 2 * m * PIXELS + N // self._groups * PIXELS + self._is_low * enlarged_room(m, W)
        head = (
            flat(planes)[(first - rows[0]) * self._stride :], self._dim, height, self._stride,
            self._table(height), self._layers.first.shape[1], *(flat(t) for t in self._layers),
        )  # fmt: skip
        vertical = slice(first, last) if self._is_low else slice(0, 1)
        tail = (
            self._groups, M, flat(low), int(self._is_low), h1, w1, w1,
            self._rows.above[vertical], self._rows.between[vertical], self._columns.weights, self._columns.J,
            self._columns.start,
        )  # fmt: skip
        weights, results, room = flat(self._weighted), (flat(partial), 0, flat(sums)), scratch(size)

        run(kernels.partial_scores, H, H, W, *head, weights, N, *tail, *results, room, size)
        return partial, sums.sum(0, dtype=torch.float64)

    def _table(self, height: int) -> Array:
        return places(self._dim, self._groups, height, self._stride, self._taps)


def _parts(rows: Rows) -> list[Rows]:
    return [(first, min(first + _ROWS, rows[1])) for first in range(*rows, _ROWS)]


def _statistics(sums: Tensor, count: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation of GroupNorm's groups, [B, groups] each, from the sums of `count` numbers."""
    mean, square = sums / count
    return mean, ((square - mean * mean).clamp(min=0) + eps).rsqrt()
