"""Checks of arguments. Every error message says what was expected and what was given."""

import operator
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor


def check_maps(**maps: Tensor) -> None:
    """Refuse anything but floating point maps [B, C, H, W] of the same images on one device, and torch.jit.trace.

    Raises:
        ValueError: if a check fails; the message names the map, or what to use instead.
    """
    if torch.jit.is_tracing():
        raise ValueError(
            "torch.jit.trace can't record the operations of resfu.ops: it would keep the sizes of its example, and so "
            "would torch.onnx.export(dynamo=False). Use resfu.export for other runtimes, torch.export.export within "
            "PyTorch."
        )
    for name, tensor in maps.items():
        check_dense(name, tensor)
        if tensor.dim() != 4:
            raise ValueError(f"{name} must be [B, C, H, W], got the shape {list(tensor.shape)}.")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {tensor.dtype}.")
        if min(tensor.shape[-2:]) < 1:
            raise ValueError(f"{name} must have at least one pixel, got {list(tensor.shape)}.")
    (first, a), *others = maps.items()
    for second, b in others:
        if a.device != b.device:
            raise ValueError(f"{first} is on {a.device} and {second} on {b.device}: move one of them.")
        if a.shape[0] != b.shape[0]:
            raise ValueError(f"{first} and {second} differ in batch size: {a.shape[0]} and {b.shape[0]}.")


def check_dense(name: str, tensor: Tensor) -> None:
    """Refuse sparse and nested tensors and 8-bit floats, which PyTorch's operators on maps do not support.

    Raises:
        ValueError: for such a tensor; the message names it and says which conversion to call.
    """
    if tensor.is_nested:
        raise ValueError(f"{name} must be one dense tensor, got a nested one: call it for each, or pad them.")
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor, got {tensor.layout}: call .to_dense() first.")
    if tensor.is_floating_point() and tensor.element_size() == 1:
        raise ValueError(f"{name} must be fp16, bf16, fp32 or fp64, got {tensor.dtype}: call .bfloat16() first.")


def check_widths(**maps: Tensor) -> None:
    """Refuse two maps [B, C, H, W] with different numbers of channels.

    Raises:
        ValueError: if they differ; the message names both.
    """
    (first, a), (second, b) = maps.items()
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{first} and {second} differ in width: {a.shape[1]} and {b.shape[1]} channels.")


def check_int(name: str, value: object, least: int = 1) -> None:
    """Refuse anything but an int of at least `least`.

    Raises:
        ValueError: for anything else; the message shows the value.
    """
    if not _is_int(value, least):
        raise ValueError(f"{name} must be an int from {least}, got {value!r}.")


def check_odd(name: str, value: object) -> None:
    """Refuse a window size that is not odd: the window would have no centre.

    Raises:
        ValueError: for an even or negative size, or anything but an int.
    """
    if not _is_int(value, 1) or value % 2 == 0:  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"{name} must be odd, got {value!r}.")


def check_divides(divisor: str, groups: object, name: str, width: int) -> None:
    """Refuse a number of groups that does not divide a width.

    Raises:
        ValueError: if it does not; the message names both.
    """
    if not _is_int(groups, 1) or width % groups:  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"{divisor} = {groups!r} must divide {name} = {width}.")


def window_size(name: str, channels: int, groups: int) -> int:
    """The K for which `channels` is groups * K * K.

    Raises:
        ValueError: if there is no such K, or it is even.
    """
    K = round((channels / groups) ** 0.5) if _is_int(groups, 1) else 0
    if K * K * groups != channels or K % 2 == 0:
        raise ValueError(
            f"{name} must have groups * K * K channels with K odd, got {channels} with groups = {groups!r}."
        )
    return K


def pair(name: str, value: object) -> tuple[int, int]:
    """Convert a value to a pair of integers (H, W).

    Raises:
        ValueError: for anything but two integers.
    """
    return _whole_numbers(name, value, "(H, W)", 2)  # pyright: ignore[reportReturnType]


def triple(name: str, value: object) -> tuple[int, int, int]:
    """Convert a value to a triple of integers (D, H, W).

    Raises:
        ValueError: for anything but three integers.
    """
    return _whole_numbers(name, value, "(D, H, W)", 3)  # pyright: ignore[reportReturnType]


def _whole_numbers(name: str, value: object, expected: str, count: int) -> tuple[int, ...]:
    try:
        # A symbolic size counts as an int in torch.compile, and is a tensor in torch.jit.trace. operator.index and
        # int() would turn it into a constant.
        whole = (int, torch.SymInt, Tensor) if torch.jit.is_tracing() else (int, torch.SymInt)
        numbers = tuple(n if isinstance(n, whole) else operator.index(n) for n in value)  # pyright: ignore
    except (TypeError, ValueError, RuntimeError):  # a tensor on the meta device raises the last
        numbers = ()
    if len(numbers) != count:
        raise ValueError(f"{name} must be {expected}, got {value!r}.")
    return numbers  # pyright: ignore[reportReturnType]


def are_ints(value: object, count: int, least: int = 1) -> bool:
    """Whether a value is a sequence of `count` ints, each at least `least`."""
    return isinstance(value, Sequence) and len(value) == count and all(_is_int(n, least) for n in value)


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
