"""What the compiled kernels of the scores read: padded planes, tables of an axis, weights in their order."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.compiled.threads import flat
from resfu.ops.compiled.tile import PIXELS
from resfu.ops.grid import interpolation_matrix
from resfu.ops.kept import kept
from resfu.ops.similarity import numba_kernels as kernels
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.similarity.numba_low import convolved
from resfu.ops.similarity.numba_padded import Norm, Source

Array = Any  # of NumPy, which nothing here imports


class Columns(NamedTuple):
    """Where the pixels of an axis lie between those of a low-resolution map with a border of one pixel.

    Attributes:
        above: [P] the first of the two.
        between: [P] how far to the second.
        start: [T] the first column of a tile.
        weights: [T J 32] how much each column counts for each pixel.
        J: columns of a tile.
    """

    above: Array
    between: Array
    start: Array
    weights: Array
    J: int


@kept()
def columns(P: int, p: int, neighbours: str) -> Columns:
    """Of P pixels over p."""
    U = interpolation_matrix(P, p, torch.empty(0, dtype=torch.float32, device="cpu"), neighbours, 1)  # [P, p + 2]
    above = (U != 0).int().argmax(1).clamp(max=p)
    between = U.gather(1, above[:, None] + 1)[:, 0]
    tiles = -(-P // PIXELS)
    starts = above[::PIXELS]
    last = torch.tensor([int(above[min((t + 1) * PIXELS, P) - 1]) + 1 for t in range(tiles)], device="cpu")
    J = -(-int((last - starts).max() + 1) // kernels.FEW) * kernels.FEW
    wide = F.pad(U, (0, J, 0, tiles * PIXELS - P))
    weights = torch.stack(
        [wide[t * PIXELS : (t + 1) * PIXELS, int(start) : int(start) + J].T for t, start in enumerate(starts)]
    )
    return Columns(above.numpy(), between.numpy(), starts.clone().numpy(), weights.flatten().numpy(), J)


class Taps(NamedTuple):
    """The pixels that a key of the query's size is read at, seen from a pixel of the query.

    Attributes:
        rows: their offsets down the columns.
        columns: along the rows.
        shares: [taps, 9] how much each neighbour's value counts at each of these; None where they are the neighbours.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    shares: Tensor | None

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of border."""
        return self.rows[-1], self.columns[-1]


@kept()
def taps(size: tuple[int, int], step: tuple[int, int]) -> Taps:
    """Of neighbours H / h and W / w pixels apart. At other than whole ratios a neighbour lies between two pixels."""
    whole = all(P % p == 0 for P, p in zip(size, step, strict=True))
    offsets, matrices = zip(*(_axis_taps(P, p) for P, p in zip(size, step, strict=True)), strict=True)
    return Taps(*offsets, shares=None if whole else torch.kron(*matrices))


def _axis_taps(P: int, p: int) -> tuple[tuple[int, ...], Tensor]:
    """Offsets, and the shares of three neighbours, [offsets, 3]."""
    shares: dict[int, list[float]] = {}
    for neighbour in (-1, 0, 1):
        before, rest = divmod(neighbour * P, p)
        for offset, share in ((before, 1 - rest / p), (before + 1, rest / p)):
            if share > 0:
                shares.setdefault(offset, [0.0] * 3)[neighbour + 1] += share
    offsets = tuple(sorted(shares))
    return offsets, torch.tensor([shares[offset] for offset in offsets], dtype=torch.float32, device="cpu")


@kept()
def places(D: int, groups: int, height: int, stride: int, read: Taps | None) -> Array:
    """Where the inputs of a tile lie from its first pixel's top left tap on, then the number of planes.

    Without `read` there is no key among them: it lies on the LR map.
    """
    d, area, found, begin = D // groups, height * stride, [], 0
    if read is not None:
        rows, cols = read.reach
        at = [(y + rows) * stride + x + cols for y in read.rows for x in read.columns]
        found = [tap + channel * area for tap in at for channel in range(d)]
        begin = D * area + rows * stride + cols
    found += [begin + channel * area for channel in range(d)]
    return torch.tensor([*found, D if read is None else 2 * D], dtype=torch.int64, device="cpu").numpy()


class Rest(NamedTuple):
    """The arguments of the scores that are no tensors: `own_groups` and `own_eps` are those of the maps' norm."""

    norm_groups: int
    eps: float
    h: int
    w: int
    neighbours: str
    own_groups: int = 0
    own_eps: float = 0.0


class Layers(NamedTuple):
    """Weights as the kernels read them: first [G, L, m], bias [M], second [G, m, m], second_bias [M]."""

    first: Tensor
    bias: Tensor
    second: Tensor
    second_bias: Tensor


class Maps:
    """A query and a key as the kernels read them.

    Args:
        key: [B, D, H, W], or convolved on the LR map, [B, h + 2, M, W1]; None for the query smoothed.
        query: [B, D, H, W].
        step: (h, w).
        neighbours: how an LR key is read.
        groups: G.
        is_low: whether the key lies on the LR map.
        norm: normalises maps of the query's size first.
    """

    def __init__(
        self,
        key: Tensor | None,
        query: Tensor,
        step: tuple[int, int],
        neighbours: str,
        groups: int,
        is_low: bool,
        norm: Norm | None = None,
    ) -> None:
        (B, D, H, W), (h, w) = query.shape, step
        self.size, self.shape, self.groups = (H, W), query.shape, groups
        self.is_low = is_low
        self.taps = None if is_low else taps((H, W), (h, w))
        self.reach = (0, 0) if self.taps is None else self.taps.reach
        rows, cols = self.reach
        self.stride = -(-W // PIXELS) * PIXELS + 2 * cols
        self.height = H + 2 * rows
        own_key = None if is_low else key
        self.sources = [] if own_key is None else [Source(own_key, 1, 0, self.reach, norm)]
        self.sources.append(Source(query, 2 - is_low - len(self.sources), len(self.sources) * D, self.reach, norm))
        self.planes = query.new_empty((B, D if is_low else 2 * D, self.height, self.stride))
        self._statistics = [source.fill(self.planes) for source in self.sources]
        self.w1 = w + 2  # columns of `low`
        self.low = key.contiguous() if is_low and key is not None else self.planes
        vertical = columns(H, h, neighbours) if self.is_low else columns(1, 1, "fine")
        self.rows = vertical
        self.columns = columns(W, w, neighbours) if self.is_low else vertical
        self.table = self.table_of(self.height)

    def table_of(self, height: int) -> Array:
        """See `places`, of planes of this height."""
        return places(self.shape[1], self.groups, height, self.stride, self.taps)

    def room_for_gradients(self) -> "MapGradients":
        """Where `gradients` leaves them."""
        B, D = self.shape[:2]
        maps = [self.planes.new_empty(self.shape) for _ in self.sources]
        return MapGradients(maps, [self.planes.new_empty((B, source.maps, 2, D)) for source in self.sources])

    def gradients(self, parts: Tensor, out: "MapGradients", first: int, last: int) -> None:
        """Of some images.

        Args:
            parts: those of their planes, [images, chunks, planes, rows, stride].
            out: gets the gradients.
            first: image.
            last: one past the last.
        """
        for source, *results in zip(self.sources, self._statistics, *out, strict=True):
            source._replace(x=source.x[first:last]).gradients(parts, *(t[first:last] for t in results))


class MapGradients(NamedTuple):
    """Gradients of `Maps`.

    Attributes:
        maps: [B, D, H, W] each: of the key, where there is one of the query's size, and of the query.
        affine: of the norm's weight and bias, of each of these [B, 1 or 2, 2, D].
    """

    maps: list[Tensor]
    affine: list[Tensor]


def made_ready(tensors: Sequence[Any], rest: Rest) -> tuple[Maps, Layers, Compressor]:
    """From the twelve tensors of the scores (key, query, weight, bias, the compressor's, the norm's) and the rest."""
    key, query, weight, bias, *others = tensors
    compressor = Compressor(*others[:6], norm_groups=rest.norm_groups, eps=rest.eps)
    groups, read, dilated = query.shape[1] // weight.shape[1], key, True
    if key is not None and key.shape[-2:] != query.shape[-2:]:
        read, dilated = convolved(key, weight), False
    norm = None if others[6] is None else Norm(others[6], others[7], rest.own_groups, rest.own_eps)
    maps = Maps(
        None if read is None else read.detach(), query.detach(), (rest.h, rest.w), rest.neighbours, groups,
        not dilated, norm,
    )  # fmt: skip
    return maps, pack(weight, bias, compressor, groups, maps.taps), compressor


def pack(weight: Tensor, bias: Tensor, compressor: Compressor, groups: int, read: Taps | None) -> Layers:
    """The parameters in the kernels' order, differentiably; `read` as in `places`."""
    M, d, K, _ = weight.shape
    by_tap = weight.reshape(groups, M // groups, d, K * K).permute(0, 3, 2, 1)  # [G, K K, d, m]
    first = -by_tap.sum(1, keepdim=True)
    if read is not None:
        if read.shares is not None:
            by_tap = torch.einsum("tn, gndm -> gtdm", read.shares, by_tap)
        first = torch.cat([by_tap, first], 1)
    second = compressor.reduce_weight.reshape(groups, M // groups, M // groups).mT
    return Layers(first.flatten(1, 2).contiguous(), bias, second.contiguous(), compressor.reduce_bias)


def split(arguments: tuple) -> tuple[tuple, tuple]:
    """Those up to second_bias, and the rest."""
    return arguments[:10], arguments[10:]


def arguments(maps: Maps, layers: Layers, first: int, last: int) -> tuple:
    """What the kernels over tiles have in common: planes to second_bias, then G to start_column."""
    low = maps.low[first:last] if maps.is_low else maps.low
    h1, W1 = maps.low.shape[1], maps.low.shape[3]
    columns = maps.columns
    return (
        flat(maps.planes[first:last]), maps.shape[1], maps.height, maps.stride, maps.table,
        layers.first.shape[1], *(flat(t) for t in layers),
        maps.groups, len(layers.bias), flat(low), int(maps.is_low), h1, maps.w1, W1,
        maps.rows.above, maps.rows.between, columns.weights, columns.J, columns.start,
    )  # fmt: skip
