"""The base class of band forms, which compute an upsampler's output band by band.

A form has three parts. `prepare` computes the tensors that all bands share, from the whole inputs; none of them is as
large as the output. `sums` computes one band's contribution to sums over the whole image, such as those of GroupNorm,
level by level; later levels get the totals of earlier ones. `rows` computes a band of the output.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from resfu.ops.layout import extended
from resfu.ops.precision import at_least_fp32
from resfu.upsamplers.base import Upsampler

Rows = tuple[int, int]
Kind = TypeVar("Kind", bound=Upsampler)


class Guide:
    """A guidance that is read a few rows at a time.

    Args:
        guidance: [B, c, H, W], or None for unguided upsamplers.
        whole: (H', W') at which the upsampler runs; the guidance's last row and column are repeated up to this size.
    """

    def __init__(self, guidance: Tensor | None, whole: tuple[int, int]) -> None:
        self.guidance = guidance
        self.whole = whole

    def rows(self, first: int, last: int) -> Tensor:
        """Rows first .. last - 1, [B, c, last - first, W']."""
        assert self.guidance is not None
        H, W = self.guidance.shape[-2:]
        first_read = min(first, H - 1)
        x = self.read(first_read, min(last, H))
        if (last, self.whole[1]) != (min(last, H), W):
            x = extended(x, last - max(min(last, H), first_read + 1), self.whole[1] - W)
        return x[:, :, first - first_read :]

    def read(self, first: int, last: int) -> Tensor:
        """Rows first .. last - 1 of the guidance, without repeated rows and columns."""
        assert self.guidance is not None
        return self.guidance[:, :, first:last]


class Form(Generic[Kind]):
    """The band form of one upsampler at one size.

    Args:
        up: the upsampler.
        low: (h, w) of the features.
        size: (H', W') at which it runs.
    """

    called: tuple[str, ...] = ("",)  # what the names of submodules that are called begin with; others take no hooks
    levels = 0
    work = 0  # numbers in memory for each pixel of a band, beyond its features
    around = 0  # numbers in memory for each column, independent of the height of a band
    tall = 0  # rows of the output whose sums are computed at once without gradients; at least those of a band
    whole_cells = True  # at whole ratios, bands consist of whole low-resolution pixels
    room = 0.0  # bytes for intermediate results that would have to be computed again

    def __init__(self, up: Kind, low: tuple[int, int], size: tuple[int, int]) -> None:
        self.up, self.low, self.size = up, low, size

    def seen(self, features: Tensor, guidance: Tensor | None) -> None:
        """Called with the inputs before bands are planned, to set `work` and `around`."""

    def planned(self, rows: int, numbers: float) -> None:
        """Called with a band's number of rows and its memory, in numbers for each column, to set `tall`."""

    def prepare(self, features: Tensor, guidance: Guide) -> list[Tensor]:
        """The tensors that all bands share."""
        return []

    def sums(
        self, level: int, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor | None:
        """A band's contribution to the sums of a level, in fp64 if they are statistics; None if it has none."""
        raise NotImplementedError

    def rows(
        self, band: Rows, features: Tensor, guide: Guide, shared: Sequence[Tensor], totals: Sequence[Tensor]
    ) -> Tensor:
        """Rows (first, one past the last) of the output, [B, C, rows, W']."""
        raise NotImplementedError

    def finish(self) -> None:
        """Free memory; no more bands are computed until `prepare` is called again."""


def channel_moments(x: Tensor) -> Tensor:
    """Sum and sum of squares of each image and channel, [2, B, C] in fp64; rows are summed in at least fp32."""
    value = at_least_fp32(x)
    if x.stride(1) == 1:  # channels-last: a sum in this order is 25 times as fast
        value = value.movedim(1, 3)
        return torch.stack([rows.sum(2).double().sum(1) for rows in (value, value * value)])
    return torch.stack([rows.sum(3).double().sum(2) for rows in (value, value * value)])


def moments(x: Tensor, groups: int) -> Tensor:
    """Sum and sum of squares of each image and group of channels, [2, B, G] in fp64."""
    return channel_moments(x).unflatten(2, (groups, -1)).sum(3)


def mean_and_scale(total: Tensor, count: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) of each image and group, [B, G], from `moments` of `count` numbers."""
    mean = total[0] / count
    return mean, ((total[1] / count - mean * mean).clamp(min=0) + eps).rsqrt()


def factor_and_summand(norm: torch.nn.GroupNorm, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """GroupNorm with given statistics [B, G], as a factor and a summand for each channel, [B, C]."""
    width = norm.num_channels // norm.num_groups
    factor = scale.repeat_interleave(width, 1) * norm.weight
    return factor, norm.bias - mean.repeat_interleave(width, 1) * factor


def normalised(x: Tensor, norm: torch.nn.GroupNorm, mean: Tensor, scale: Tensor) -> Tensor:
    """GroupNorm of a band of a map, with the statistics of the whole map."""
    exact = torch.promote_types(x.dtype, torch.float32)
    factor, summand = (t.to(exact)[:, :, None, None] for t in factor_and_summand(norm, mean, scale))
    return torch.addcmul(summand, x.to(exact), factor).to(x.dtype)


def statistics(x: Tensor, norm: torch.nn.GroupNorm) -> list[Tensor]:
    """Mean and 1 / sqrt(variance + eps) of each image and group of a whole map, [B, G]."""
    value = x.unflatten(1, (norm.num_groups, -1))
    if x.dtype.itemsize < 4:
        value = value.float()
    variance, mean = torch.var_mean(value, (2, 3, 4), correction=0)
    return [mean, (variance + norm.eps).rsqrt()]
