"""What operations compute in: fp32 at least where digits matter, and autocast on the devices that have it.

"meta" is one that has not, and PyTorch raises there.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def exact_dtype(*tensors: Tensor) -> torch.dtype:
    """The promoted dtype of all tensors, fp32 at least."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def at_least_fp32(x: Tensor) -> Tensor:
    """The tensor in fp32, or in fp64 where it came so."""
    return x.to(exact_dtype(x))


def without_autocast(x: Tensor) -> AbstractContextManager:
    """A context where operations on the device of x compute in the dtypes they are given."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def surrounding_autocast(x: Tensor) -> AbstractContextManager:
    """A context that torch.export writes into its program: the autocast that it is called under, if any.

    A program has no other part in that autocast, and its dtypes would be those of nowhere.
    """
    device = x.device.type
    if not torch.compiler.is_exporting() or not torch.amp.is_autocast_available(device):
        return nullcontext()
    if not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, dtype=torch.get_autocast_dtype(device))


def is_autocast(x: Tensor) -> bool:
    """Whether autocast converts x and the weights that it meets."""
    device = x.device.type
    available = x.dtype != torch.float64 and torch.amp.is_autocast_available(device)
    return available and torch.is_autocast_enabled(device)


def autocast_dtype(x: Tensor) -> torch.dtype:
    """What a convolution of x computes in."""
    return torch.get_autocast_dtype(x.device.type) if is_autocast(x) else x.dtype
