"""Maps as the planes that the compiled kernels of the scores read: smoothed, normalised and with their border."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.filters.api import gaussian_weight
from resfu.ops.kept import kept
from resfu.ops.similarity import numba_planes as kernels


class Norm(NamedTuple):
    """A GroupNorm of maps: weight [D], bias [D], its groups and eps."""

    weight: Tensor
    bias: Tensor
    groups: int
    eps: float


class Source(NamedTuple):
    """What planes are made from.

    Attributes:
        x: [B, D, H, W].
        maps: 1, or 2 where the 3 x 3 Gaussian of x comes before x.
        begin: the first of its planes.
        reach: rows and columns of the border.
        norm: the normalisation of each map, if any.
    """

    x: Tensor
    maps: int
    begin: int
    reach: tuple[int, int]
    norm: Norm | None

    def fill(self, planes: Tensor) -> Tensor:
        """Fill planes [B, all, height, stride]; the statistics of GroupNorm's groups, [B, maps, groups, 2]."""
        B, groups = len(self.x), self._groups
        statistics = planes.new_empty((B, self.maps, groups, 2))
        head, target, found = self._arguments(), flat(planes), flat(statistics)
        size = self._room() if self.maps > 1 else 0
        eps = self.norm.eps if self.norm else 0.0
        norm_bias = flat(self.norm.bias) if self.norm else found

        run(
            kernels.padded_planes, B * groups, *head, norm_bias, eps, self.maps, _gaussian(), *self.reach, target,
            self.begin, planes.shape[1], planes.shape[3], found, scratch(size), size,
        )  # fmt: skip
        return statistics

    def gradients(self, parts: Tensor, statistics: Tensor, d_x: Tensor, d_affine: Tensor) -> None:
        """From those of chunks of planes, [B, chunks, all, rows, stride].

        Args:
            parts: of all planes.
            statistics: what `fill` found.
            d_x: [B, D, H, W], gets the gradient.
            d_affine: [B, maps, 2, D], those of the norm's weight and bias, where there is one.
        """
        B, groups, size = len(self.x), self._groups, self._room()
        _, chunks, planes, height, stride = parts.shape
        head, given = self._arguments(), (flat(parts), chunks, height)
        before, results = flat(statistics), (flat(d_x), flat(d_affine))

        run(
            kernels.plane_gradients, B * groups, *given, *head, before, self.maps, _gaussian(), *self.reach, self.begin,
            planes, stride, *results, scratch(size), size,
        )  # fmt: skip

    @property
    def _groups(self) -> int:
        return self.norm.groups if self.norm else self.x.shape[1]

    def _arguments(self) -> tuple[Any, ...]:
        (_, D, H, W), weight = self.x.shape, self.norm.weight if self.norm else self.x
        return flat(self.x), D, H, W, self._groups, int(self.norm is not None), flat(weight)

    def _room(self) -> int:
        """How many numbers of scratch a thread needs."""
        _, D, H, W = self.x.shape
        return 2 * D // self._groups * H * W + kernels.room_of_lines(W)


@kept(1)
def _gaussian() -> Any:
    """The weights of the centre, of what lies beside it and of the corners."""
    weight = gaussian_weight(torch.device("cpu"))
    return torch.stack([weight[1, 1], weight[0, 1], weight[0, 0]]).numpy()
