"""The gradients of the similarity scores by compiled kernels, from the maps and the statistics of GroupNorm alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.compiled.tile import LANES, PIXELS
from resfu.ops.similarity import numba_correlations as correlations
from resfu.ops.similarity import numba_gradients
from resfu.ops.similarity import numba_kernels as kernels
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.similarity.numba_low import enlarged_room, low_gradients
from resfu.ops.similarity.numba_maps import Layers, Maps, Rest, arguments, made_ready, split

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
        partial: the partial scores, where forward kept them.
        grad: the scores' gradient.
    """
    with torch.enable_grad():  # of the small steps from the parameters to what the kernels read
        weight, reduce_weight = small = [t.detach().requires_grad_() for t in tensors[2:5:2]]
        given = [*tensors[:2], weight, tensors[3], reduce_weight, *tensors[5:]]
        maps, layers, c = made_ready(given, rest)
    found = _Chunks(maps, layers, c, partial, grad)
    of_maps = maps.room_for_gradients()
    for first, last in found.images():
        slopes = found.through_norm(mean[first:last], inverse[first:last], first, last)
        maps.gradients(found.gradients(slopes, first, last), of_maps, first, last)
    norm_weight, norm_bias, score_weight = found.of_norm(mean, inverse)
    score_bias = found.total.sum(0).float()
    d_layers = found.of_layers()
    d_weight, d_reduce = torch.autograd.grad([layers.first, layers.second], small, d_layers[::2])
    d_key = of_maps.maps[0] if len(of_maps.maps) > 1 else None
    if maps.is_low:
        d_key, through_low = low_gradients(tensors[0], weight.detach(), found.d_low.sum(1).movedim(3, 1))
        d_weight = d_weight + through_low
    own_weight, own_bias = torch.stack([t.sum((0, 1)) for t in of_maps.affine]).sum(0)
    return [
        d_key, of_maps.maps[-1], d_weight, d_layers.bias, d_reduce, d_layers.second_bias, norm_weight, norm_bias,
        score_weight.view_as(c.score_weight), score_bias, own_weight, own_bias,
    ]  # fmt: skip


class _Chunks:
    """The gradients of an image in some chunks of rows, as many whatever the number of threads."""

    def __init__(self, maps: Maps, layers: Layers, c: Compressor, partial: Tensor | None, grad: Tensor) -> None:
        self.maps, self.layers, self.c, self.partial, self.grad = maps, layers, c, partial, grad
        H, B, M = maps.size[0], maps.shape[0], len(layers.bias)
        N = self.number = max(1, min(_CHUNKS, H // (4 * maps.reach[0] + 16)))
        self.height = max(H * (i + 1) // N - H * i // N for i in range(N)) + 2 * maps.reach[0]
        self.d_low = grad.new_zeros((B, N, maps.low.shape[1], maps.w1, M) if maps.is_low else (B, 1))
        self._layers = [grad.new_zeros((B * N, *t.shape)) for t in (layers.first, layers.second)]
        self._correlated = grad.new_zeros((B, N, M, LANES))
        self._biases = [grad.new_zeros((B * N, M)) for _ in range(2)]
        self.total = grad.sum(3).sum(2, dtype=torch.float64)  # [B, 9]
        self._at_once = max(1, _MOST // (N * maps.planes.shape[1] * self.height * maps.stride))

    def images(self) -> list[tuple[int, int]]:
        """(first, one past the last) of those that are worked on together."""
        B = self.maps.shape[0]
        return [(first, min(first + self._at_once, B)) for first in range(0, B, self._at_once)]

    def through_norm(self, mean: Tensor, inverse: Tensor, first: int, last: int) -> list[Any]:
        """From the gradient of some images' scores to that of the hidden channels: scale, shift and slope."""
        c, (H, W), M, N = self.c, self.maps.size, len(self.layers.bias), self.c.norm_groups
        if self.partial is None:
            weighed = self._correlations(first, last)
        else:
            of_rows = torch.empty((last - first, H, N), dtype=torch.float64, device="cpu")
            given = flat(self.partial[first:last]), flat(self.grad[first:last]), of_rows.view(-1).numpy()
            run(correlations.weighed_scores, (last - first) * H, H, W, N, *given)
            weighed = of_rows.sum(1)
        found = [flat(self.grad.new_empty((last - first, n, M))) for n in (kernels.COUNT, 1, 1)]
        layer = [flat(t) for t in (c.score_weight, c.norm_weight)]
        numba_gradients.through_norm(
            last - first, H, W, M, N, flat(weighed), flat(self.total[first:last]), *layer, flat(mean), flat(inverse),
            *found,
        )  # fmt: skip
        return found

    def _correlations(self, first: int, last: int) -> Tensor:
        """Note the hidden channels times the gradients of the scores; times the weights behind them, by norm group."""
        maps, N, (H, W) = self.maps, self.number, self.maps.size
        head, tail = split(arguments(maps, self.layers, first, last))
        m = len(self.layers.bias) // maps.groups
        size = (2 * m + 2 * LANES) * PIXELS + maps.is_low * enlarged_room(m, W)
        given = *head, flat(self.grad[first:last]), flat(self._correlated[first:last]), *tail, scratch(size), size
        run(correlations.correlations, (last - first) * N, N, H, W, *given)
        weight = self.c.score_weight.detach().flatten(1).T * self.c.norm_weight.detach()[:, None]  # [M, 9]
        by_channel = (self._correlated[first:last, ..., : kernels.COUNT].double().sum(1) * weight).sum(2)
        return by_channel.unflatten(1, (self.c.norm_groups, -1)).sum(2)

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
        results: list[Any] = [*(flat(t[first:last]) for t in (self.d_low, self._correlated))]
        results += [int(self.partial is not None), *(flat(t[first * N : last * N]) for t in shares)]
        space, target = scratch(size), flat(d_planes)

        given += [target, height, 2 * maps.reach[0], table, *results, *tail, space, size]
        run(numba_gradients.gradients, B * N, N, H, W, *head, *given)
        return d_planes

    def of_layers(self) -> Layers:
        """The gradients of the layers, of all images together."""
        first, second = (t.sum(0) for t in self._layers)
        bias, second_bias = (t.sum(0) for t in self._biases)
        return Layers(first, bias, second, second_bias)
