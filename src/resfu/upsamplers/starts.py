"""Starts: an upsampler that first gives what an interpolation gives, and learns what to add.

A trained network that gets another upsampler is not to lose what it has learned. The published forms cannot give an
interpolation at first: their kernels are softmaxes, which never leave one neighbour alone. With a start, a method gives

    out = interpolation(x) + (learned(x) - learned(x) at the beginning),

with the last learned layer at 0: its gradient is there from the first step, that of all layers before it from the
second. The weights that are added sum to 0, so a constant stays one where the method keeps it, and since they may be
negative the result can also be sharper than an average.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops import reassemble, window_softmax
from resfu.upsamplers.options import check_choice

PUBLISHED, BILINEAR = "published", "bilinear"
STARTS = (PUBLISHED, "nearest", "nearest-exact", BILINEAR, "bilinear-corners", "bicubic", "bicubic-corners")


def check_start(start: object) -> None:
    """Refuse an unknown start.

    Raises:
        ValueError: that lists the starts.
    """
    check_choice("start", start, STARTS)


def at_zero(*layers: nn.Module) -> None:
    """Set the last learned layers to 0."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def interpolated(features: Tensor, size: tuple[int, int], start: str) -> Tensor:
    """The interpolation that a start names: [B, C, h, w] -> [B, C, H, W]."""
    mode, corners, _ = start.partition("-corners")
    align = None if mode.startswith("nearest") else bool(corners)
    return F.interpolate(features, size=size, mode=mode, align_corners=align)


def started_at(size: tuple[int, int], out: Tensor, features: Tensor, whole: tuple[int, int], start: str) -> Tensor:
    """The output of a larger whole size, cropped: its start becomes the interpolation to the size that is left.

    Args:
        size: (H, W) that is left.
        out: [B, C, H, W].
        features: [B, C, h, w].
        whole: (H', W') that the upsampler ran at.
        start: of `STARTS`, not "published".
    """
    ran = interpolated(features, whole, start)[..., : size[0], : size[1]]
    return (out - ran) + interpolated(features, size, start)


def learned_change(scores: Tensor, kernel: Callable[[Tensor], Tensor] = window_softmax) -> Tensor:
    """Weights of the neighbours less those that scores of 0 give: [B, groups * K * K, H, W]."""
    return kernel(scores) - kernel(torch.zeros_like(scores[:1]))


def reassemble_from(
    start: str,
    features: Tensor,
    scores: Tensor,
    size: tuple[int, int],
    groups: int = 1,
    out: Tensor | None = None,
) -> Tensor:
    """Reassembly of "coarse" neighbours by the softmax of scores, from a start.

    Args:
        start: of `STARTS`.
        features: [B, C, h, w].
        scores: [B, groups * K * K, H, W].
        size: (H, W).
        groups: blocks of channels with weights of their own.
        out: [B, C, H, W], which the result is written into.

    Returns:
        [B, C, H, W].
    """
    if start == PUBLISHED:
        return reassemble(features, scores, size, "coarse", groups=groups, softmax=True, out=out)
    weights = learned_change(scores, lambda values: window_softmax(values, groups))
    learned = reassemble(features, weights, size, "coarse", groups=groups, out=out)
    first = interpolated(features, size, start)
    return first + learned if out is None else out.add_(first)
