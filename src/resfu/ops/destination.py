"""Results that are written into a tensor of the caller's."""

import torch
from torch import Tensor


def check_destination(out: Tensor, size: tuple[int, ...], *inputs: Tensor | None) -> None:
    """Refuse a tensor that a result of this size can't be written into, and gradients, which have no way through it.

    Args:
        out: what the caller gave.
        size: of the result, in the dtype and on the device of the first input.
        inputs: what the result is a function of.

    Raises:
        ValueError: that says what came and what was expected.
    """
    like = next(x for x in inputs if x is not None)
    if tuple(out.shape) != tuple(size) or out.dtype != like.dtype or out.device != like.device:
        raise ValueError(
            f"out must be {like.dtype} {list(size)} on {like.device}, got {out.dtype} {list(out.shape)} on "
            f"{out.device}."
        )
    if any(n > 1 and stride == 0 for n, stride in zip(out.shape, out.stride(), strict=True)):
        raise ValueError("out must have memory for each of its numbers, got an expanded tensor: call .clone() first.")
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (out, *inputs)):
        raise ValueError("out= has no gradients: call it under torch.no_grad() or leave out= away.")
