"""Checks of arguments. Every error says what was expected and what came."""

import operator
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor


def check_maps(**maps: Tensor) -> None:
    """Refuse anything but floating point maps [B, C, H, W] of the same images on one device, and torch.jit.trace.

    Raises:
        ValueError: that names the map, or what to use instead.
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
    """Refuse sparse and nested tensors, and numbers of 8 bits, which PyTorch's operators on maps don't take.

    Raises:
        ValueError: that names the map, and what to call before.
    """
    if tensor.is_nested:
        raise ValueError(f"{name} must be one dense tensor, got a nested one: call it for each, or pad them.")
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor, got {tensor.layout}: call .to_dense() first.")
    if tensor.is_floating_point() and tensor.element_size() == 1:
        raise ValueError(f"{name} must be fp16, bf16, fp32 or fp64, got {tensor.dtype}: call .bfloat16() first.")


def check_widths(**maps: Tensor) -> None:
    """Refuse maps [B, C, H, W] of different widths.

    Raises:
        ValueError: that names both.
    """
    (first, a), (second, b) = maps.items()
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{first} and {second} differ in width: {a.shape[1]} and {b.shape[1]} channels.")


def check_int(name: str, value: object, least: int = 1) -> None:
    """Refuse anything but an int of at least `least`.

    Raises:
        ValueError: that says what came.
    """
    if not _is_int(value, least):
        raise ValueError(f"{name} must be an int from {least}, got {value!r}.")


def check_odd(name: str, value: object) -> None:
    """Refuse a window that has no centre.

    Raises:
        ValueError: for an even or negative size, or anything but an int.
    """
    if not _is_int(value, 1) or value % 2 == 0:  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"{name} must be odd, got {value!r}.")


def check_divides(divisor: str, groups: object, name: str, width: int) -> None:
    """Refuse groups that do not divide a width.

    Raises:
        ValueError: that names both.
    """
    if not _is_int(groups, 1) or width % groups:  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"{divisor} = {groups!r} must divide {name} = {width}.")


def window_size(name: str, channels: int, groups: int) -> int:
    """K of so many channels that are K x K of each group.

    Raises:
        ValueError: where there is none, or none that is odd.
    """
    K = round((channels / groups) ** 0.5) if _is_int(groups, 1) else 0
    if K * K * groups != channels or K % 2 == 0:
        raise ValueError(
            f"{name} must have groups * K * K channels with K odd, got {channels} with groups = {groups!r}."
        )
    return K


def pair(name: str, value: object) -> tuple[int, int]:
    """Two whole numbers.

    Raises:
        ValueError: for anything else.
    """
    return _whole_numbers(name, value, "(H, W)", 2)  # pyright: ignore[reportReturnType]


def triple(name: str, value: object) -> tuple[int, int, int]:
    """Three whole numbers.

    Raises:
        ValueError: for anything else.
    """
    return _whole_numbers(name, value, "(D, H, W)", 3)  # pyright: ignore[reportReturnType]


def _whole_numbers(name: str, value: object, expected: str, count: int) -> tuple[int, ...]:
    try:
        # Under torch.compile a symbolic size counts as an int, under torch.jit.trace it is a tensor: operator.index and
        # int() would make it a number.
        whole = (int, torch.SymInt, Tensor) if torch.jit.is_tracing() else (int, torch.SymInt)
        numbers = tuple(n if isinstance(n, whole) else operator.index(n) for n in value)  # pyright: ignore
    except (TypeError, ValueError, RuntimeError):  # a tensor on the meta device raises the last
        numbers = ()
    if len(numbers) != count:
        raise ValueError(f"{name} must be {expected}, got {value!r}.")
    return numbers  # pyright: ignore[reportReturnType]


def are_ints(value: object, count: int, least: int = 1) -> bool:
    """Whether this is a sequence of so many ints, each at least so large."""
    return isinstance(value, Sequence) and len(value) == count and all(_is_int(n, least) for n in value)


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
