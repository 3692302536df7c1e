"""Linear interpolation axis by axis, with the same rounding as `F.interpolate` on the CPU.

PyTorch's kernel for contiguous maps computes fma(x[i], 1 - t, x[i + 1] t), from the last axis to the first. Whether it
uses a fused multiply-add depends on the compiler, and addcmul does the same, since both come from one compiler. In half
precision the kernel rounds the weights to the maps' dtype, and otherwise only the result. The code here interpolates
one axis after the other, or any part of an axis, and every value has the same bits as the kernel's.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Taps(NamedTuple):
    """The positions of an input axis that each of the P pixels of an output axis reads.

    Attributes:
        low: [P], index of the first position.
        high: [P], index of the second position; None if each pixel reads only one.
        low_weight: [P], weight of the first position.
        high_weight: [P], weight of the second position.
    """

    low: Tensor
    high: Tensor | None = None
    low_weight: Tensor | None = None
    high_weight: Tensor | None = None

    def part(self, first: int, last: int) -> "Taps":
        """The taps of the pixels first .. last - 1."""
        if self.high is None:
            return Taps(self.low[first:last])
        return Taps(*(values[first:last] for values in self.pairs()))

    def span(self) -> tuple[int, int]:
        """The positions that are read, as (first, one past the last)."""
        return int(self.low[0]), int((self.low if self.high is None else self.high)[-1]) + 1

    def pairs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four tensors of linear taps."""
        assert self.high is not None
        assert self.low_weight is not None
        assert self.high_weight is not None
        return self.low, self.high, self.low_weight, self.high_weight

    def shifted(self, origin: int) -> "Taps":
        """The same taps for an input axis that begins at `origin`."""
        return self._replace(low=self.low - origin, high=None if self.high is None else self.high - origin)


def linear_taps(P: int, p: int, dtype: torch.dtype, device: torch.device) -> Taps:
    """Taps of linear interpolation from p to P pixels, as in `align_corners=False`, clamped to the ends.

    Args:
        P: pixels of the output's axis.
        p: pixels of the input's axis.
        dtype: of the maps, which decides the precision of the weights.
        device: of the maps.
    """
    exact = torch.promote_types(dtype, torch.float32)
    ratio = torch.tensor(p, dtype=exact, device=device) / torch.tensor(P, dtype=exact, device=device)
    centre = torch.arange(P, dtype=exact, device=device) + 0.5
    position = torch.addcmul(torch.full_like(centre, -0.5), centre, ratio.expand(P)).clamp_(min=0)
    low = position.long().clamp_(max=p - 1)
    high_weight = (position - low).clamp_(0, 1).to(dtype)
    high = low if P == p else (low + 1).clamp(max=p - 1)  # at ratio 1 PyTorch reads no neighbour
    return Taps(low, high, (1 - high_weight).to(exact), high_weight.to(exact))


def nearest_taps(P: int, p: int, mode: str, dtype: torch.dtype, device: torch.device) -> Taps:
    """Taps of nearest-neighbour interpolation from p to P pixels, taken from PyTorch itself, with its rounding.

    Args:
        P: pixels of the output's axis.
        p: pixels of the input's axis.
        mode: "nearest" (the input pixel that contains the upper left corner of the output pixel) or "nearest-exact"
            (that contains its centre; spline order 0).
        dtype: of the maps; positions in fp64 maps are rounded less.
        device: of the maps.
    """
    exact = torch.promote_types(dtype, torch.float32)
    pixels = torch.arange(p, dtype=exact, device="cpu")[None, None]
    return Taps(F.interpolate(pixels, size=P, mode=mode)[0, 0].long().to(device))


def interpolate_axis(x: Tensor, taps: Taps, axis: int) -> Tensor:
    """Interpolate x along one axis: [..., p, ...] -> [..., P, ...].

    If it is the last axis, it is moved to the front in between: reading single numbers takes far longer than reading
    runs of numbers and copying twice.
    """
    if axis == x.dim() - 1:
        return interpolate_axis(x.movedim(-1, 0).contiguous(), taps, 0).movedim(0, -1).contiguous()
    if taps.high is None:
        return x.index_select(axis, taps.low)
    low, high, low_weight, high_weight = taps.pairs()
    shape = [1] * x.dim()
    shape[axis] = -1
    out = x.index_select(axis, high).mul_(high_weight.view(shape))
    return out.addcmul_(x.index_select(axis, low), low_weight.view(shape))
