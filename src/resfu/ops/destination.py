"""Check of the argument `out`, the tensor into which a result is written."""

import torch
from torch import Tensor


def check_destination(out: Tensor, size: tuple[int, ...], *inputs: Tensor | None) -> None:
    """Refuse an `out` that does not fit the result, and `out` together with gradients, which it does not support.

    Args:
        out: the caller's tensor.
        size: shape of the result. Its dtype and device are those of the first input that is not None.
        inputs: the tensors from which the result is computed.

    Raises:
        ValueError: with what was given and what was expected.
    """
    if not isinstance(out, Tensor):
        raise ValueError(f"out must be a tensor, got {type(out).__name__}.")
    like = next(x for x in inputs if x is not None)
    if tuple(out.shape) != tuple(size) or out.dtype != like.dtype or out.device != like.device:
        raise ValueError(
            f"out must be {like.dtype} {list(size)} on {like.device}, got {out.dtype} {list(out.shape)} on "
            f"{out.device}."
        )
    if any(n > 1 and stride == 0 for n, stride in zip(out.shape, out.stride(), strict=True)):
        raise ValueError("out must have memory for each of its numbers, got an expanded tensor: call .clone() first.")
    # A graph that is being captured has no memory yet.
    if not torch.compiler.is_compiling() and any(x is not None and _overlap(out, x) for x in inputs):
        raise ValueError("out shares memory with an input, which may be read after out is written: give other memory.")
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (out, *inputs)):
        raise ValueError("out= has no gradients: call it under torch.no_grad() or leave out= away.")


def _overlap(out: Tensor, x: Tensor) -> bool:
    """Whether the stretches of memory of two tensors meet."""
    if out.device != x.device or 0 in (out.numel(), x.numel()) or out.is_meta:
        return False
    (first, end), (start, last) = (_stretch(t) for t in (out, x))
    return first < last and start < end


def _stretch(x: Tensor) -> tuple[int, int]:
    reach = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    return x.data_ptr(), x.data_ptr() + (reach + 1) * x.element_size()
