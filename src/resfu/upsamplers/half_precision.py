"""Half precision on the CPU, computed in fp32: the compiled kernels take only fp32, and are 2 to 4 times as fast."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from resfu.ops.backends import operators_are_recorded, which_backend
from resfu.ops.precision import is_autocast
from resfu.upsamplers.plain import all_plain

if TYPE_CHECKING:
    from resfu.upsamplers.base import Upsampler

_HALF = (torch.bfloat16, torch.float16)
_Module = TypeVar("_Module", bound=nn.Module)


def in_fp32(up: "Upsampler", features: Tensor, guidance: Tensor | None) -> Callable[..., Tensor] | None:
    """A version of `up.upsample` that computes half precision or autocast in fp32; None if that does not apply."""
    if not up.compiled or up.dims == 3 or features.device.type != "cpu" or getattr(up, "backend", "auto") != "auto":
        return None
    if features.dtype not in _HALF and not (features.dtype == torch.float32 and is_autocast(features)):
        return None
    parameters = list(up.parameters())
    given = [features, *parameters] if guidance is None else [features, guidance, *parameters]
    if operators_are_recorded(*given) or which_backend(features.new_empty(0, dtype=torch.float32)) != "numba":
        return None
    if any(parameter.dtype in _HALF for parameter in parameters):
        if not all_plain(up) or next(up.buffers(), None) is not None:  # a copy would lose what a module notes
            return None
        up = _in_fp32(up)

    def upsample(features: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return up.upsample(features.float(), None if guidance is None else guidance.float(), size)

    return upsample


def _in_fp32(module: _Module) -> _Module:
    """A copy of the module with its parameters in fp32, through which gradients reach the originals.

    It is a copy because other threads may run the module itself at the same time.
    """
    other = copy.copy(module)
    weights = {name: p if p is None or p.dtype not in _HALF else p.float() for name, p in module._parameters.items()}
    vars(other)["_parameters"] = weights
    other._modules = {name: None if child is None else _in_fp32(child) for name, child in module._modules.items()}
    return other
