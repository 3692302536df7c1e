"""The gradients of the similarity scores by compiled kernels, from the maps and the statistics of GroupNorm alone."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import LANES, PIXELS
from resfu.ops.layout import pad
from resfu.ops.similarity import numba_gradients
from resfu.ops.similarity import numba_kernels as kernels
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.similarity.numba_low import enlarged_room
from resfu.ops.similarity.numba_maps import Layers, Maps, Rest, arguments, made_ready, split
from resfu.ops.similarity.numba_partial import partial_scores

_CHUNKS = 4  # of an image, at most
_MOST = 1 << 24  # numbers of the gradients in planes that are held at once: 64 MB


def backward(
    tensors: Sequence[Any], rest: Rest, mean: Tensor, inverse: Tensor, partial: Tensor | None, grad: Tensor
) -> list[Tensor | None]:
    """Gradients in all twelve tensors of `numba_maps.made_ready`.

    Args:
        tensors: those.
        rest: what belongs to them.
        mean: of GroupNorm's groups, [B, norm groups].
        inverse: likewise, 1 / their deviation.
        partial: what `numba_partial.partial_scores` found; None to find it once more.
        grad: the scores' gradient.
    """
    with torch.enable_grad():  # of the small steps from the parameters to what the kernels read
        small: list[Any] = [t if t is None else t.detach().requires_grad_() for t in (tensors[0], *tensors[2:5:2])]
        key, weight, reduce_weight = small
        given = [key, tensors[1], weight, tensors[3], reduce_weight, *tensors[5:]]
        maps, layers, c = made_ready(given, rest)
        low = F.conv2d(pad(key, 2, 2), weight, groups=maps.groups) if maps.is_low else None  # on the CPU
    found = _Chunks(maps, layers, c, grad)
    of_maps = maps.room_for_gradients()
    for first, last in found.images():
        slopes = found.through_norm(mean[first:last], inverse[first:last], partial, first, last)
        maps.gradients(found.gradients(slopes, first, last), of_maps, first, last)
    norm_weight, norm_bias, score_weight = found.of_norm(mean, inverse)
    score_bias = found.total.sum(0).float()
    d_layers = found.of_layers()
    inputs, outputs, cotangents = [weight, reduce_weight], [layers.first, layers.second], [*d_layers[::2]]
    if low is not None:
        inputs, outputs, cotangents = [*inputs, key], [*outputs, low], [*cotangents, found.d_low.sum(1).movedim(3, 1)]
    d_weight, d_reduce, *d_key = torch.autograd.grad(outputs, inputs, cotangents)
    return [
        d_key[0] if d_key else of_maps.key, of_maps.query, d_weight, d_layers.bias, d_reduce, d_layers.second_bias,
        norm_weight, norm_bias, score_weight.view_as(c.score_weight), score_bias, of_maps.weight.sum((0, 1)),
        of_maps.bias.sum((0, 1)),
    ]  # fmt: skip


class _Chunks:
    """The gradients of an image in some chunks of rows, as many whatever the number of threads."""

    def __init__(self, maps: Maps, layers: Layers, c: Compressor, grad: Tensor) -> None:
        self.maps, self.layers, self.c, self.grad = maps, layers, c, grad
        H, B, M = maps.size[0], maps.shape[0], len(layers.bias)
        N = self.number = max(1, min(_CHUNKS, H // (4 * maps.reach[0] + 16)))
        self.height = max(H * (i + 1) // N - H * i // N for i in range(N)) + 2 * maps.reach[0]
        self.d_low = grad.new_zeros((B, N, maps.low.shape[1], maps.w1, M) if maps.is_low else (B, 1))
        self._layers = [grad.new_zeros((B * N, *t.shape)) for t in (layers.first, layers.second)]
        self._correlated = grad.new_zeros((B, N, M, LANES))
        self._biases = [grad.new_zeros((B * N, M)) for _ in range(2)]
        self.total = grad.sum((2, 3), dtype=torch.float64)  # [B, 9]
        self._at_once = max(1, _MOST // (N * maps.planes.shape[1] * self.height * maps.stride))

    def images(self) -> list[tuple[int, int]]:
        """(first, one past the last) of those that are worked on together."""
        B = self.maps.shape[0]
        return [(first, min(first + self._at_once, B)) for first in range(0, B, self._at_once)]

    def through_norm(self, mean: Tensor, inverse: Tensor, partial: Tensor | None, first: int, last: int) -> list[Any]:
        """From the gradient of some images' scores to that of the hidden channels: scale, shift and slope."""
        c, (H, W), M, N = self.c, self.maps.size, len(self.layers.bias), self.c.norm_groups
        weighed = torch.empty((last - first, H, N), dtype=torch.float64, device="cpu")
        for b in range(first, last):
            here = partial_scores(self.maps, self.layers, c, b, b + 1)[0] if partial is None else partial[b]
            given = flat(here), flat(self.grad[b]), flat(weighed[b - first])
            run(numba_gradients.weighed_scores, H, H, W, N, *given)
        found = [flat(self.grad.new_empty((last - first, n, M))) for n in (kernels.COUNT, 1, 1)]
        layer = [flat(t) for t in (c.score_weight, c.norm_weight)]
        numba_gradients.through_norm(
            last - first, H, W, M, N, flat(weighed), flat(self.total[first:last]), *layer, flat(mean), flat(inverse),
            *found,
        )  # fmt: skip
        return found

    def of_norm(self, mean: Tensor, inverse: Tensor) -> list[Tensor]:
        """The gradients of GroupNorm's weight and bias, [M] each, and of the last layer's weight [9, M]."""
        c, (B, N, M, _) = self.c, self._correlated.shape
        found = [torch.zeros(n * M, dtype=torch.float64, device="cpu") for n in (1, 1, kernels.COUNT)]
        layer = [flat(t) for t in (c.score_weight, c.norm_weight, c.norm_bias)]
        numba_gradients.parameters_of_norm(
            B, N, M, c.norm_groups, flat(self._correlated), flat(self.total), *layer, flat(mean), flat(inverse),
            *(t.numpy() for t in found),
        )  # fmt: skip
        return [t.float() for t in found]

    def gradients(self, slopes: list[Any], first: int, last: int) -> Tensor:
        """In the planes of some images, chunk by chunk [images, chunks, planes, rows, stride]. Notes all others."""
        maps, N, height = self.maps, self.number, self.height
        (H, W), B = maps.size, last - first
        head, tail = split(arguments(maps, self.layers, first, last))
        table = maps.table_of(height)
        d_planes = self.grad.new_empty((B, N, maps.planes.shape[1], height, maps.stride))
        m = len(self.layers.bias) // maps.groups
        size = (6 * m + 2 * LANES) * PIXELS
        size += maps.is_low * (enlarged_room(m, W) + (maps.w1 + maps.columns.J) * m)
        given = [flat(self.grad[first:last]), *slopes]
        shares = (self._layers[0], self._biases[0], self._layers[1], self._biases[1])
        both = (self.d_low, self._correlated)
        results = [*(flat(t[first:last]) for t in both), *(flat(t[first * N : last * N]) for t in shares)]
        space, target = scratch(size), flat(d_planes)

        given += [target, height, 2 * maps.reach[0], table, *results, *tail, space, size]
        run(numba_gradients.gradients, B * N, N, H, W, *head, *given)
        return d_planes

    def of_layers(self) -> Layers:
        """The gradients of the layers, of all images together."""
        first, second = (t.sum(0) for t in self._layers)
        bias, second_bias = (t.sum(0) for t in self._biases)
        return Layers(first, bias, second, second_bias)
