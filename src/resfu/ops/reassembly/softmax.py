"""The softmax that turns the scores of a pixel's neighbours into weights."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from resfu.ops.checks import check_maps, window_size
from resfu.ops.grid import neighbour_in_image
from resfu.ops.layout import memory_format
from resfu.ops.portable import is_portable
from resfu.ops.precision import at_least_fp32

HEAD_START = 4.0  # what `softmax_change` adds to the score of the centre neighbour


def window_softmax(
    scores: Float[Tensor, "B GKK H W"], groups: int = 1, low: tuple[int, int] | None = None
) -> Float[Tensor, "B GKK H W"]:
    """Softmax over the K x K neighbours of each group.

    Args:
        scores: [B, groups * K * K, H, W].
        groups: number of blocks, each with a softmax of its own.
        low: (h, w) of the low-resolution map. If given, neighbours outside the image get weight 0; neighbours are one
            low-resolution pixel apart.

    Returns:
        The weights [B, groups * K * K, H, W] in at least fp32. A channels-last map stays channels-last.

    Raises:
        ValueError: for anything but a floating point map of groups * K * K channels with K odd.

    >>> weights = resfu.ops.window_softmax(torch.zeros(1, 9, 4, 4))
    >>> bool((weights == 1 / 9).all())
    True
    """
    check_maps(scores=scores)
    K = window_size("scores", scores.shape[1], groups)
    scores = at_least_fp32(scores)
    if low is not None:
        H, W = scores.shape[-2:]
        rows = neighbour_in_image(H, low[0], K, scores.device)
        columns = neighbour_in_image(W, low[1], K, scores.device)
        inside = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)
        scores = scores.masked_fill(~inside.repeat(groups, 1, 1), float("-inf"))
    if is_portable():
        return _by_operators(scores, groups)
    if memory_format(scores) == torch.channels_last:
        return scores.permute(0, 2, 3, 1).unflatten(3, (groups, -1)).softmax(4).flatten(3).permute(0, 3, 1, 2)
    return scores.unflatten(1, (groups, -1)).softmax(2).flatten(1, 2)


def softmax_change(scores: Tensor, kernel: Callable[[Tensor], Tensor] = window_softmax, groups: int = 1) -> Tensor:
    """The weights by a softmax minus the weights for scores of 0: [B, groups * K * K, H, W].

    Both softmaxes add `HEAD_START` to the score of the centre neighbour. So weights for scores of 0 lie mostly at the
    centre, and nearly all of them can move to another neighbour. Without it, 1 / (K K) would stay at each neighbour.

    Args:
        scores: [B, groups * K * K, ...].
        kernel: the softmax, from scores to weights.
        groups: number of blocks, each with a softmax of its own.
    """
    scores = at_least_fp32(scores)  # in bf16 the head start would leave steps of 1 / 32
    head_start = HEAD_START * _centre(scores, groups)
    return kernel(scores + head_start) - kernel(torch.zeros_like(scores[:1]) + head_start)


def softmax_from_centre(scores: Tensor, groups: int = 1, low: tuple[int, int] | None = None) -> Tensor:
    """`softmax_change`, plus 1 at the centre neighbour. Arguments as for `window_softmax`."""
    return plus_centre(softmax_change(scores, lambda values: window_softmax(values, groups, low), groups), groups)


def plus_centre(weights: Tensor, groups: int = 1) -> Tensor:
    """Weights [B, groups * K * K, ...] with 1 added to those of the centre neighbours."""
    return weights + _centre(weights, groups)


def _centre(weights: Tensor, groups: int) -> Tensor:
    """1 at the centre neighbour of each group and 0 elsewhere: [groups * K * K, 1, ...]."""
    count = weights.shape[1] // groups
    centre = (torch.arange(count, device=weights.device) == count // 2).to(weights.dtype)
    return centre.repeat(groups).view(-1, *[1] * (weights.dim() - 2))


def _by_operators(scores: Tensor, groups: int) -> Tensor:
    """The softmax by elementary operators: ONNX Runtime's takes ten times as long over an axis that is not the last."""
    if groups > 1:
        return (
            _by_operators(scores.unflatten(1, (groups, -1)).flatten(0, 1), 1).unflatten(0, (-1, groups)).flatten(1, 2)
        )
    weights = (scores - scores.amax(1, keepdim=True)).exp()
    return weights / weights.sum(1, keepdim=True)
