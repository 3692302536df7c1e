"""Upsampling in several steps, each with its own weights and guidance."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import cast

from torch import Tensor, nn

from resfu.ops.checks import pair
from resfu.ops.pooling import adaptive_average
from resfu.upsamplers.base import Upsampler, check_map
from resfu.upsamplers.pretrained import Shareable


class Iterative(Shareable):
    """A chain of upsamplers, by which most methods reach a high ratio: x2, x2, ... (arXiv 2407.02283, Fig. 9).

    Args:
        steps: one upsampler for each step, from coarse to fine. An upsampler without a `scale_factor` doubles the size.

    Raises:
        ValueError: for an empty chain, or a step that is no upsampler.
    """

    def __init__(self, steps: Iterable[Upsampler]) -> None:
        super().__init__()
        steps = list(steps)
        if not steps:
            raise ValueError("an iterative upsampler needs at least one step.")
        for n, step in enumerate(steps):
            if not isinstance(step, Upsampler):
                raise ValueError(f"step {n} must be one of resfu.UPSAMPLERS, got {type(step).__name__}.")
        self.steps = nn.ModuleList(steps)

    def forward(
        self,
        features: Tensor,
        guidances: Tensor | Sequence[Tensor | None] | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Bring features to high resolution step by step.

        Args:
            features: [B, C, h, w].
            guidances: one map [B, c, H_i, W_i] for each step, coarse to fine; each guides its step and sets the step's
                output size. A step without guidance may have None instead. Or a single map at the output's resolution,
                which is average-pooled to every step's size.
            size: (H, W) of the output. Default: the size of the last guidance, else the size that the steps' ratios
                give. For an odd size, steps that only take whole ratios pass through the sizes that halving it (at x2)
                and rounding up gives: for 21 rows, 6 and 11.

        Returns:
            [B, C, H, W].

        Raises:
            ValueError: if there are not as many guidances as steps, or if a step refuses its input.
        """
        last = len(self.steps) - 1
        single = isinstance(guidances, Tensor)
        check_map("features", features, "[B, C, h, w]", None)
        if single:
            check_map("guidances", guidances, "[B, c, H, W]", None)
        elif guidances is not None:
            _check_guidances(guidances, last + 1)
        size = None if size is None else pair("size", size)
        target = size if size is not None or not single else (guidances.shape[-2], guidances.shape[-1])
        ratios = [_plain(cast("Upsampler", step).scale_factor or 2) for step in self.steps]
        for n, step in enumerate(self.steps):
            assert isinstance(step, Upsampler)
            h, w = features.shape[-2:]
            reached = (_times(h, ratios[n]), _times(w, ratios[n]))
            if step.ratios != "any" and target is not None:
                reached = _on_the_way(reached, target, ratios[n], prod(ratios[n + 1 :]))
            if guidances is None:
                guidance = None
            elif not single:
                guidance = guidances[n]
                reached = reached if guidance is None else (guidance.shape[-2], guidance.shape[-1])
            elif n == last:
                guidance = guidances
                reached = (guidance.shape[-2], guidance.shape[-1])
            else:
                guidance = adaptive_average(guidances, reached)
            features = step(features, guidance, size=size if n == last and size is not None else reached)
        return features


def _check_guidances(guidances: object, steps: int) -> None:
    if not isinstance(guidances, Sequence):
        raise ValueError(f"guidances must be a tensor or a list of tensors, got {type(guidances).__name__}.")
    if len(guidances) != steps:
        raise ValueError(f"every step needs a guidance, coarse to fine: {steps}, got {len(guidances)}.")
    for n, guidance in enumerate(guidances):
        if guidance is not None:
            check_map(f"the guidance of step {n}", guidance, "[B, c, H, W]", None)


def _plain(ratio: int | float) -> int | float:
    """Convert a whole ratio to an int: exporters keep a dynamic size dynamic only in products with integers."""
    return int(ratio) if ratio == int(ratio) else ratio


def _times(pixels: int, ratio: int | float) -> int:
    return pixels * ratio if isinstance(ratio, int) else int(pixels * ratio)


def _on_the_way(
    whole: tuple[int, int], target: tuple[int, int], ratio: int | float, rest: int | float
) -> tuple[int, int]:
    """The output size of a step from which the later steps (of ratio `rest` together) reach the target.

    It is the whole size, or a crop of it.
    """
    wanted = [-(-P // rest) if isinstance(rest, int) else int(-(-P // rest)) for P in target]
    rows, columns = (b if 0 <= a - b < ratio else a for a, b in zip(whole, wanted, strict=True))
    return rows, columns
