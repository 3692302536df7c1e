"""Labels of pixels between two planes in which the same class is the largest."""

import torch
from torch import Tensor

from resfu.deploy.decisions import first_largest

_BLOCK = 1 << 18
_SAMPLED = 16  # every 16th column is tested first, to see whether the test is worth its time
_OPEN = 0.3  # share of undecided columns between two planes, from which computing all columns is faster
_ROUNDING = 16  # rounding units by which a class must lead; interpolation has errors of at most 8
_LEAST = 1e-30  # least lead, so that no product underflows


class CornerLabels:
    """The largest class at each pixel of some planes, and whether it leads by more than the rounding errors.

    Interpolation weights are not negative. So a class that leads in both planes by more than the rounding errors also
    leads between them.

    Args:
        label: [p, m], the largest class.
        leads: [p, m], whether it leads by enough.
    """

    def __init__(self, label: Tensor, leads: Tensor) -> None:
        self.label = label
        self._leads = leads

    @classmethod
    def of(cls, planes: Tensor, dtype: torch.dtype) -> "CornerLabels | None":
        """The corner labels of planes [p, K, m]; None if too few pixels are decided, or a number is not finite.

        Args:
            planes: in at least fp32.
            dtype: the dtype to which the interpolated logits are rounded.
        """
        sample = cls(*_leaders(planes[:, :, ::_SAMPLED], dtype))
        openness = sum(sample._undecided(p, p + 1).float().mean().item() for p in range(len(planes) - 1))
        if openness > _OPEN * (len(planes) - 1) or not planes.sum().isfinite():
            return None
        return cls(*_leaders(planes, dtype))

    def open(self, low: int, high: int) -> Tensor | None:
        """The columns between two planes whose class is not decided; None if they are so many that all are computed."""
        if high - low > 1:
            return None
        columns = self._undecided(low, high).nonzero()[:, 0]
        return columns if len(columns) <= _OPEN * self.label.shape[1] else None

    def _undecided(self, low: int, high: int) -> Tensor:
        leads = (self.label[low] == self.label[high]) & self._leads[low] & self._leads[high]
        return leads.logical_not_()


def _leaders(planes: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The largest class and whether it leads by enough, [p, m] each."""
    p, K, m = planes.shape
    label = torch.empty((p, m), dtype=torch.long, device=planes.device)
    leads = torch.empty((p, m), dtype=torch.bool, device=planes.device)
    unit = _ROUNDING * torch.finfo(dtype).eps
    step = max(1, _BLOCK // K)
    for place in range(p):
        for left in range(0, m, step):
            columns = slice(left, left + step)
            block = planes[place : place + 1, :, columns].clone()
            largest = block.amax(1)
            found = first_largest(block, largest)
            rest = block.copy_(planes[place : place + 1, :, columns]).scatter_(1, found[:, None], float("-inf")).amax(1)
            gap = largest - rest
            label[place, columns] = found[0]
            leads[place, columns] = ((gap > unit * (largest.abs() + rest.abs())) & (gap > _LEAST))[0]
    return label, leads
