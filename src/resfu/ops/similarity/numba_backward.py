"""The gradients of the similarity scores by compiled kernels, from the maps and the statistics of GroupNorm alone."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import LANES, PIXELS
from resfu.ops.similarity import numba_gradients
from resfu.ops.similarity import numba_kernels as kernels
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.similarity.numba_maps import Layers, Maps, Rest, arguments, convolved, made_ready, split

_CHUNKS = 4  # of an image, at most


def backward(
    tensors: Sequence[Tensor | None], rest: Rest, mean: Tensor, inverse: Tensor, grad: Tensor
) -> list[Tensor | None]:
    """Gradients in all twelve tensors of `numba_maps.made_ready`."""
    with torch.enable_grad():  # of the small steps from the parameters to what the kernels read
        small = [None if t is None else t.detach().requires_grad_() for t in (tensors[0], tensors[2], tensors[4])]
        key, weight, reduce_weight = small
        given = [key, tensors[1], weight, tensors[3], reduce_weight, *tensors[5:]]
        maps, layers, c = made_ready(given, rest)
        low = convolved(key, weight) if maps.is_low else None  # pyright: ignore[reportArgumentType]
    found = _Chunks(maps, layers, c, grad)
    norm = found.through_norm(mean, inverse)
    parts, d_low, d_layers = found.gradients(norm)
    d_key, d_query, d_norm_weight, d_norm_bias = maps.gradients(parts)
    inputs, outputs, cotangents = [weight, reduce_weight], [layers.first, layers.second], [*d_layers[::2]]
    if low is not None:
        inputs, outputs, cotangents = [*inputs, key], [*outputs, low], [*cotangents, d_low]
    d_weight, d_reduce, *rest_of = torch.autograd.grad(outputs, inputs, cotangents)  # pyright: ignore[reportArgumentType]
    return [
        rest_of[0] if rest_of else d_key, d_query, d_weight, d_layers.bias, d_reduce, d_layers.second_bias,
        norm.weight, norm.bias, norm.score_weight.view_as(c.score_weight), norm.score_bias, d_norm_weight, d_norm_bias,
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
        head, tail = split(arguments(maps, self.layers, 0, B))
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
        """In the planes, chunk by chunk [B, chunks, planes, rows, stride], the convolved LR key and the layers."""
        maps, layers, N = self.maps, self.layers, self.number
        (B, planes), (H, W), M = maps.planes.shape[:2], maps.size, len(layers.bias)
        head, tail = split(arguments(maps, layers, 0, B))
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
        return d_planes, d_low.sum(1) if maps.is_low else d_low, Layers(*sums)
