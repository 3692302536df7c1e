"""Maps as the planes that the compiled kernels of the scores read: smoothed, normalised and with their border."""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from resfu.ops.compiled.threads import flat, run, scratch
from resfu.ops.filters.api import gaussian_weight
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
        smooth: whether the 3 x 3 Gaussian comes first.
        begin: the first of its planes.
        reach: rows and columns of the border.
        norm: the normalisation, if any.
    """

    x: Tensor
    smooth: bool
    begin: int
    reach: tuple[int, int]
    norm: Norm | None

    def fill(self, planes: Tensor) -> Tensor:
        """Fill planes [B, all, height, stride]; the statistics of GroupNorm's groups, [B, groups, 2]."""
        B, groups = len(self.x), self._groups
        statistics = planes.new_empty((B, groups, 2))
        size, space, wide = self._scratch(self.smooth)
        head, target, found = self._arguments(), flat(planes), flat(statistics)
        eps = self.norm.eps if self.norm else 0.0
        norm_bias = flat(self.norm.bias) if self.norm else found

        run(
            kernels.padded_planes, B * groups, *head, norm_bias, eps, int(self.smooth), _gaussian(), *self.reach,
            target, self.begin, planes.shape[1], planes.shape[3], found, space, size, wide,
        )  # fmt: skip
        return statistics

    def gradients(
        self, parts: Tensor, statistics: Tensor, d_x: Tensor, d_weight: Tensor, d_bias: Tensor, add: bool
    ) -> None:
        """From those of chunks of planes, [B, chunks, all, rows, stride].

        Args:
            parts: of all planes.
            statistics: what `fill` found.
            d_x: [B, D, H, W], gets the gradient.
            d_weight: [B, D], that of the norm's weight, where there is one.
            d_bias: [B, D], likewise.
            add: to what d_x holds.
        """
        B, groups = len(self.x), self._groups
        _, chunks, planes, height, stride = parts.shape
        size, space, wide = self._scratch(True)
        head, given = self._arguments(), (flat(parts), chunks, height)
        before, after, target = flat(statistics), (flat(d_weight), flat(d_bias)), flat(d_x)

        run(
            kernels.plane_gradients, B * groups, *given, *head, before, int(self.smooth), _gaussian(), *self.reach,
            self.begin, planes, stride, int(add), target, *after, space, size, wide,
        )  # fmt: skip

    @property
    def _groups(self) -> int:
        return self.norm.groups if self.norm else self.x.shape[1]

    def _arguments(self) -> tuple[Any, ...]:
        (_, D, H, W), weight = self.x.shape, self.norm.weight if self.norm else self.x
        return flat(self.x), D, H, W, self._groups, int(self.norm is not None), flat(weight)

    def _scratch(self, needed: bool) -> tuple[int, Any, Any]:
        """How many numbers a thread has, room for those of all threads, and two lines in fp64 for each."""
        _, D, H, W = self.x.shape
        size = needed * (2 * D // self._groups * H * W + 2 * (W + 2))
        wide = torch.empty(2 * W * torch.get_num_threads(), dtype=torch.float64, device="cpu").numpy()
        return size, scratch(size), wide


@lru_cache(maxsize=1)
def _gaussian() -> Any:
    """The weights of the centre, of what lies beside it and of the corners."""
    weight = gaussian_weight(torch.device("cpu"))
    return torch.stack([weight[1, 1], weight[0, 1], weight[0, 0]]).numpy()
