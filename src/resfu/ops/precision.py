"""The dtypes in which operations compute: at least fp32 where precision matters, and autocast's dtype elsewhere.

Some devices, such as "meta", have no autocast; PyTorch raises an error when asked for it there.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def exact_dtype(*tensors: Tensor) -> torch.dtype:
    """The promoted dtype of all tensors, at least fp32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def at_least_fp32(x: Tensor) -> Tensor:
    """The tensor in fp32, or in fp64 if it already is."""
    return x.to(exact_dtype(x))


def without_autocast(x: Tensor) -> AbstractContextManager:
    """A context without autocast on the device of x."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def surrounding_autocast(x: Tensor) -> AbstractContextManager:
    """A context that makes torch.export record the surrounding autocast, if any, in its program.

    Otherwise the exported program would run without the autocast under which it was exported, with other dtypes.
    """
    device = x.device.type
    if not torch.compiler.is_exporting() or not torch.amp.is_autocast_available(device):
        return nullcontext()
    if not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, dtype=torch.get_autocast_dtype(device))


def is_autocast(x: Tensor) -> bool:
    """Whether autocast converts x, and the weights with which it is convolved or multiplied."""
    device = x.device.type
    available = x.dtype != torch.float64 and torch.amp.is_autocast_available(device)
    return available and torch.is_autocast_enabled(device)


def autocast_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which a convolution of x computes."""
    return torch.get_autocast_dtype(x.device.type) if is_autocast(x) else x.dtype
