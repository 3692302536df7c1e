"""The similarity scores by compiled kernels, for paired central differences in fp32 on the CPU.

Hidden channels live in tiles of 32 pixels and are never written: GroupNorm's groups are scored apart, 72 numbers a
pixel instead of 128, and joined when its statistics are known. Backward computes them again.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import LANES, PIXELS
from resfu.ops.grid import interpolation_matrix
from resfu.ops.similarity import numba_kernels as kernels
from resfu.ops.similarity import numba_gradients, operators
from resfu.ops.similarity.compressor import Compressor

_CHUNKS = 4  # of an image, at most
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
        for n, x in enumerate(maps):
            self._pad(x, n * D)
        self.low = key.contiguous() if self.is_low else self.planes
        vertical = columns(H, h, neighbours) if self.is_low else columns(1, 1, "fine")
        self.rows = vertical
        self.columns = columns(W, w, neighbours) if self.is_low else vertical
        self.J = self.columns.weights.shape[1]
        self.table = self.table_of(self.height)

    def _pad(self, x: Tensor, begin: int) -> None:
        B, D, H, W = x.shape
        source, target, number = flat(x), flat(self.planes), self.planes.shape[1]

        def task(first: int, last: int, _: int) -> None:
            kernels.padded_planes(first, last, source, D, H, W, *self.reach, target, begin, number, self.stride)

        run(task, B * D)

    def table_of(self, height: int) -> Tensor:
        """Where the inputs of a tile lie from its first pixel's top left tap on, then the number of planes of `height`."""
        D = self.shape[1]
        d, area = D // self.groups, height * self.stride
        (rows, cols), places, begin = self.reach, [], 0
        if not self.is_low:
            taps = [y * rows * self.stride + x * cols for y in range(3) for x in range(3)]
            places = [tap + channel * area for tap in taps for channel in range(d)]
            begin = D * area + rows * self.stride + cols
        places += [begin + channel * area for channel in range(d)]
        return torch.tensor([*places, self.planes.shape[1]], dtype=torch.int64, device="cpu")

    def cropped(self, x: Tensor) -> Tensor:
        """Padded planes without their border."""
        (rows, cols), (H, W) = self.reach, self.size
        return x[..., rows : rows + H, cols : cols + W].contiguous()

    def unpadded(self, x: Tensor) -> Tensor:
        """The adjoint of repeating the border. Overwrites x."""
        (rows, cols), (H, W) = self.reach, self.size
        x[..., rows, :] += x[..., :rows, :].sum(-2)
        x[..., rows + H - 1, :] += x[..., rows + H :, :].sum(-2)
        x[..., cols] += x[..., :cols].sum(-1)
        x[..., cols + W - 1] += x[..., cols + W :].sum(-1)
        return self.cropped(x)


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
    tensors = (key, query, weight, bias, *compressor)
    return _Scores.apply(*tensors, *step, neighbours)  # pyright: ignore[reportReturnType]


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        tensors, (norm_groups, eps, h, w, neighbours) = given[:10], given[10:]
        maps, layers, compressor = _made_ready(tensors, *given[10:])
        out, mean, inverse = forward(maps, layers, compressor)
        ctx.save_for_backward(*tensors, mean, inverse)
        ctx.rest = norm_groups, eps, h, w, neighbours
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        tensors, (mean, inverse), needs = ctx.saved_tensors[:10], ctx.saved_tensors[10:], ctx.needs_input_grad[:10]
        if torch.is_grad_enabled():  # for derivatives of the derivatives
            found = operators.gradients(grads[0], list(tensors), list(needs), *ctx.rest, create_graph=True)
        else:
            found = backward(tensors, ctx.rest, mean, inverse, grads[0].contiguous())
            found = [gradient for gradient, need in zip(found, needs, strict=True) if need]
        found = iter(found)
        return (*(next(found) if need else None for need in needs), *(None for _ in ctx.rest))


def _made_ready(
    tensors: Sequence[Tensor], norm_groups: int, eps: float, h: int, w: int, neighbours: str
) -> tuple[Maps, Layers, Compressor]:
    key, query, weight, bias, *rest = tensors
    compressor = Compressor(*rest, norm_groups=norm_groups, eps=eps)
    groups, dilated = query.shape[1] // weight.shape[1], key.shape[-2:] == query.shape[-2:]
    read = key if dilated else convolved(key, weight)
    maps = Maps(read.detach(), query.detach(), (h, w), neighbours, groups, not dilated)
    return maps, pack(weight, bias, compressor, groups, dilated), compressor


def convolved(key: Tensor, weight: Tensor) -> Tensor:
    """[B, h + 2, w + 2, M], see `operators.convolved_key`."""
    return operators.convolved_key(key, weight).movedim(1, 3).flatten(3)


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
    B, (H, W), N = maps.shape[0], maps.size, c.norm_groups
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
        arrays = [flat(t) for t in (partial, inverse.float(), (shift - moved).float(), out[first:last])]
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
    results = flat(partial), flat(sums)
    weights = flat(weighted)
    head, tail = split(arguments)

    def task(a: int, b: int, thread: int) -> None:
        kernels.partial_scores(a, b, H, W, *head, weights, norm_groups, *tail, *results, space, thread * size + PIXELS)

    run(task, (last - first) * H)
    return sums.sum(1, dtype=torch.float64)


def split(arguments: tuple) -> tuple[tuple, tuple]:
    """Those up to second_bias, and the rest."""
    return arguments[:10], arguments[10:]


def _arguments(maps: Maps, layers: Layers, first: int, last: int) -> tuple:
    """What the kernels over tiles have in common: planes to second_bias, then G to start_column."""
    low = maps.low[first:last] if maps.is_low else maps.low
    h1, w1 = maps.low.shape[1:3]
    J = maps.columns.weights.shape[1]
    return (
        flat(maps.planes[first:last]), maps.shape[1], maps.height, maps.stride, maps.table.numpy(),
        layers.first.shape[1], *(flat(t) for t in layers),
        maps.groups, len(layers.bias), flat(low), int(maps.is_low), h1, w1, maps.rows.above.numpy(),
        maps.rows.between.numpy(), flat(maps.columns.weights), J, maps.columns.start.numpy(),
    )  # fmt: skip


def _statistics(sums: Tensor, pixels: int, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    total, square = (t.unflatten(1, (groups, -1)).sum(2) for t in sums.unbind(1))
    count = pixels * sums.shape[2] // groups
    mean = total / count
    return mean, ((square / count - mean * mean).clamp(min=0) + eps).rsqrt()


def backward(tensors: Sequence[Tensor], rest: tuple, mean: Tensor, inverse: Tensor, grad: Tensor) -> list[Tensor]:
    """Gradients in all ten tensors."""
    key, query, weight, bias, *_ = tensors
    with torch.enable_grad():  # of the small steps from the parameters to what the kernels read
        key, weight, reduce_weight = (t.detach().requires_grad_() for t in (key, weight, tensors[4]))
        maps, layers, c = _made_ready((key, query, weight, bias, reduce_weight, *tensors[5:]), *rest)
        low = convolved(key, weight) if maps.is_low else None
    found = _Chunks(maps, layers, c, grad)
    norm = found.through_norm(mean, inverse)
    d_planes, d_low, d_layers = found.gradients(norm)
    with torch.enable_grad():
        outputs, cotangents = [layers.first, layers.second], [d_layers.first, d_layers.second]
        if low is None:
            d_weight, d_reduce = torch.autograd.grad(outputs, (weight, reduce_weight), cotangents)
            d_key = maps.unpadded(d_planes[:, : query.shape[1]])
        else:
            outputs, cotangents = [*outputs, low], [*cotangents, d_low]
            d_key, d_weight, d_reduce = torch.autograd.grad(outputs, (key, weight, reduce_weight), cotangents)
    d_query = maps.cropped(d_planes[:, -query.shape[1] :])
    return [
        d_key, d_query, d_weight, d_layers.bias, d_reduce, d_layers.second_bias, norm.weight, norm.bias,
        norm.score_weight.view_as(c.score_weight), norm.score_bias,
    ]  # fmt: skip


class _Norm(NamedTuple):
    """What goes through GroupNorm and the last layer.

    Attributes:
        scale: [B, 9, M], shift and slope [B, M]: see `numba_gradients.gradients`.
        weight, bias: gradients of GroupNorm's, [M].
        score_weight: [9, M]; score_bias: [9].
    """

    scale: Tensor
    shift: Tensor
    slope: Tensor
    weight: Tensor
    bias: Tensor
    score_weight: Tensor
    score_bias: Tensor


class _Chunks:
    """The gradients of an image in some chunks of rows, as many whatever the number of threads."""

    def __init__(self, maps: Maps, layers: Layers, c: Compressor, grad: Tensor) -> None:
        self.maps, self.layers, self.c, self.grad = maps, layers, c, grad
        H = maps.size[0]
        self.number = max(1, min(_CHUNKS, H // (4 * maps.reach[0] + 16)))
        self.rows = max(H * (i + 1) // self.number - H * i // self.number for i in range(self.number))

    def through_norm(self, mean: Tensor, inverse: Tensor) -> _Norm:
        """From the gradient of the scores to that of the hidden channels."""
        maps, c, (H, W) = self.maps, self.c, self.maps.size
        B, M = maps.shape[0], len(self.layers.bias)
        out = self.grad.new_empty((B * self.number, M, LANES))
        head, tail = split(_arguments(maps, self.layers, 0, B))
        size = (2 * M // maps.groups + 2 * LANES) * PIXELS + maps.is_low * (maps.low.shape[2] + maps.J) * M
        space, given = scratch(size), (flat(self.grad), flat(out))

        def task(a: int, b: int, thread: int) -> None:
            numba_gradients.correlations(a, b, self.number, H, W, *head, *given, *tail, space, thread * size)

        run(task, B * self.number)
        correlated = out.view(B, self.number, M, LANES)[..., : kernels.COUNT].sum(1, dtype=torch.float64)
        weight, gamma, beta = (t.double() for t in (c.score_weight.flatten(1), c.norm_weight, c.norm_bias))
        total = self.grad.sum((2, 3), dtype=torch.float64)  # [B, 9]
        width, pixels = M // c.norm_groups, H * W
        mean, inverse = (t.repeat_interleave(width, 1) for t in (mean, inverse))  # [B, M]
        plain = total @ weight  # sum of the gradient behind GroupNorm, and times h
        times_h = (correlated * weight.T).sum(2)
        normalised = inverse * (times_h - mean * plain)

        def shared(t: Tensor) -> Tensor:
            return t.unflatten(1, (c.norm_groups, -1)).mean(2).repeat_interleave(width, 1) / pixels

        slope = inverse * inverse * shared(gamma * normalised)
        shift = inverse * shared(gamma * plain) - mean * slope
        scale = weight * (inverse * gamma)[:, None]
        d_score = (correlated.mT - total[:, :, None] * mean[:, None]) * (inverse * gamma)[:, None]
        d_score = d_score + total[:, :, None] * beta
        sums = (normalised.sum(0), plain.sum(0), d_score.sum(0), total.sum(0))
        return _Norm(*(t.float().contiguous() for t in (scale, shift, slope, *sums)))

    def gradients(self, norm: _Norm) -> tuple[Tensor, Tensor, Layers]:
        """In the planes [B, planes, height, stride], the convolved LR key and the layers."""
        maps, layers, N = self.maps, self.layers, self.number
        (B, planes), (H, W), M = maps.planes.shape[:2], maps.size, len(layers.bias)
        head, tail = split(_arguments(maps, layers, 0, B))
        height = self.rows + 2 * maps.reach[0]
        table = maps.table_of(height)
        d_planes = self.grad.new_zeros((B, N, planes, height, maps.stride))
        d_low = self.grad.new_zeros((B, N, *maps.low.shape[1:]) if maps.is_low else (1,))
        shares = [self.grad.new_zeros((B * N, *t.shape)) for t in (layers.first, layers.second)]
        biases = [self.grad.new_zeros((B * N, M, PIXELS)) for _ in range(2)]
        m = M // maps.groups
        size = (6 * m + kernels.COUNT) * PIXELS + 2 * (maps.low.shape[2] + maps.J) * M
        given = [flat(t) for t in (self.grad, *norm[:3])]
        results = [flat(t) for t in (d_low, shares[0], biases[0], shares[1], biases[1])]
        space, target = scratch(size), flat(d_planes)

        def task(a: int, b: int, thread: int) -> None:
            numba_gradients.gradients(
                a, b, N, H, W, *head, *given, target, height, table.numpy(), *results, *tail, space, thread * size
            )

        run(task, B * N)
        sums = [shares[0].sum(0), biases[0].sum((0, 2)), shares[1].sum(0), biases[1].sum((0, 2))]
        return self._joined(d_planes), d_low.sum(1) if maps.is_low else d_low, Layers(*sums)

    def _joined(self, parts: Tensor) -> Tensor:
        """Chunks [B, N, planes, rows, stride], which overlap by the reach of the taps, as one map."""
        if self.number == 1:
            return parts[:, 0]
        (H, _), reach = self.maps.size, self.maps.reach[0]
        out = torch.zeros_like(self.maps.planes)
        for i in range(self.number):
            top, bottom = H * i // self.number, H * (i + 1) // self.number
            out[:, :, top : bottom + 2 * reach] += parts[:, i, :, : bottom - top + 2 * reach]
        return out
