"""Scores of GroupNorm's groups apart, before its statistics are known."""

from torch import Tensor

from resfu.ops.compiled.threads import flat, past_the_cache, run, scratch
from resfu.ops.compiled.tile import PIXELS
from resfu.ops.similarity import numba_kernels as kernels
from resfu.ops.similarity.compressor import Compressor
from resfu.ops.similarity.numba_low import enlarged_room
from resfu.ops.similarity.numba_maps import Layers, Maps, arguments, split


def room(maps: Maps, c: Compressor, images: int) -> Tensor:
    """For the partial scores of some images: [images, H, tiles of a row, norm groups, 9, 32]."""
    H, W = maps.size
    return maps.planes.new_empty((images, H, -(-W // PIXELS), c.norm_groups, kernels.COUNT, PIXELS))


def partial_scores(maps: Maps, layers: Layers, c: Compressor, first: int, last: int, out: Tensor) -> Tensor:
    """The sums of some images' hidden channels and of their squares, [images, H, 2, norm groups].

    Args:
        maps: all images.
        layers: weights of the hidden channels.
        c: the layers behind them.
        first: image.
        last: one past the last.
        out: see `room`; gets the partial scores of these images.
    """
    (H, W), N = maps.size, c.norm_groups
    sums = maps.planes.new_empty((last - first, H, 2, N))
    head, tail = split(arguments(maps, layers, first, last))
    weighted = (c.score_weight.detach().flatten(1) * c.norm_weight.detach()).T.contiguous()  # [M, 9]
    m = len(layers.bias) // maps.groups
    size = 2 * m * PIXELS + N // maps.groups * PIXELS + maps.is_low * enlarged_room(m, W)
    space, results, weights = scratch(size), (flat(out), past_the_cache(out), flat(sums)), flat(weighted)

    given = *head, weights, N, *tail, *results, space, size
    run(kernels.partial_scores, (last - first) * H, H, W, *given)
    return sums
