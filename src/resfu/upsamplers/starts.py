"""Starts: an untrained upsampler that equals an interpolation, and learns what to add to it.

A trained network that gets another upsampler should not lose what it has learned. The published methods cannot equal an
interpolation at first: their kernels are softmaxes, which always mix all neighbours. With a start, a method gives

    out = interpolation(x) + (learned(x) - learned(x) at the beginning),

with the last learned layer set to 0 at the beginning. This layer has a gradient from the first training step, the
layers before it from the second. The added weights sum to 0, so a constant stays constant if it does in the published
method. They may be negative, so the result can be sharper than an average.

In these softmaxes the score of the centre neighbour has a head start of 4. So "learned(x) at the beginning" is almost
the centre neighbour, not the mean of all neighbours, which would stay subtracted from the result for good.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops import reassemble, window_softmax
from resfu.ops.reassembly.softmax import softmax_change
from resfu.upsamplers.options import check_choice

PUBLISHED, BILINEAR = "published", "bilinear"
STARTS = (PUBLISHED, "nearest", "nearest-exact", BILINEAR, "bilinear-corners", "bicubic", "bicubic-corners")


def check_start(start: object) -> None:
    """Refuse an unknown start.

    Raises:
        ValueError: for any other value; the message lists the starts.
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
    """Correct the start of a cropped output: exchange the interpolation to the whole size for that to `size`.

    Args:
        size: (H, W) after cropping.
        out: [B, C, H, W], the cropped output.
        features: [B, C, h, w].
        whole: (H', W'), the size at which the upsampler ran.
        start: one of `STARTS`, not "published".
    """
    ran = interpolated(features, whole, start)[..., : size[0], : size[1]]
    return (out - ran) + interpolated(features, size, start)


def reassemble_from(
    start: str,
    features: Tensor,
    scores: Tensor,
    size: tuple[int, int],
    groups: int = 1,
    out: Tensor | None = None,
) -> Tensor:
    """Reassemble "coarse" neighbours with the softmax of scores, beginning from a start.

    Args:
        start: one of `STARTS`.
        features: [B, C, h, w].
        scores: [B, groups * K * K, H, W].
        size: (H, W).
        groups: number of blocks of channels, each with weights of its own.
        out: [B, C, H, W]; if given, the result is written into it.

    Returns:
        [B, C, H, W].
    """
    if start == PUBLISHED:
        return reassemble(features, scores, size, "coarse", groups=groups, softmax=True, out=out)
    weights = softmax_change(scores, lambda values: window_softmax(values, groups), groups)
    learned = reassemble(features, weights, size, "coarse", groups=groups, out=out)
    first = interpolated(features, size, start)
    return first + learned if out is None else out.add_(first)
