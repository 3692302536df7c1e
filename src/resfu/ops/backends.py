"""The choice of the backend that runs an operation, and the reason why another cannot."""

from importlib.util import find_spec

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from resfu.ops.portable import is_portable

BACKENDS = ("auto", "reference", "cpu", "numba", "triton", "portable")
_TRITON_INSTALLED = find_spec("triton") is not None
_NUMBA_INSTALLED = find_spec("numba") is not None


def which_backend(features: Tensor, backend: str = "auto") -> str:
    """The backend that runs an operation on this tensor.

    "auto" chooses

    - "portable" while a model is exported for another runtime,
    - "numba" for fp32 tensors on the CPU, if Numba is installed and nothing records PyTorch's operators, as
      torch.compile, torch.export, torch.func and modes that count or fake operators do,
    - "cpu" for other tensors on the CPU,
    - "triton" for CUDA tensors if Triton is installed,
    - "reference" otherwise.

    If a backend has no kernel for the arguments of an operation, the operators of "cpu" run.

    Args:
        features: the tensor; its device and dtype decide.
        backend: the requested backend, one of `BACKENDS`.

    Returns:
        "cpu", "numba", "triton", "portable" or "reference".

    Raises:
        ValueError: for an unknown backend, or one that cannot run on the tensor; the message gives the reason.

    >>> resfu.ops.which_backend(torch.zeros(1, dtype=torch.float64))
    'cpu'
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
    device = features.device.type
    obstacle = None
    if backend == "cpu" and device != "cpu":
        obstacle = f"it can't run on {features.device}"
    elif backend == "triton" and device != "cuda":
        obstacle = f"it runs on CUDA tensors and can't run on {features.device}"
    elif backend == "triton" and not _TRITON_INSTALLED:
        obstacle = "the package triton is not installed"
    elif backend == "numba":
        obstacle = numba_obstacle(features)
    if obstacle:
        raise ValueError(f"backend={backend!r}: {obstacle}. Move the tensors or use backend='auto'.")
    if backend != "auto":
        return backend
    if is_portable():
        return "portable"
    if device == "cpu":
        return "cpu" if numba_obstacle(features) or operators_are_recorded(features) else "numba"
    return "triton" if device == "cuda" and _TRITON_INSTALLED else "reference"


def operators_are_recorded(*tensors: Tensor) -> bool:
    """Whether PyTorch's operators must stay visible, for example to torch.compile; a compiled kernel would hide them.

    This is so in torch.compile, torch.export, torch.jit.trace, torch.func, forward-mode differentiation and dispatch
    modes, and for subclasses of Tensor.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or bool(_get_current_dispatch_mode_stack())
        or peek_interpreter_stack() is not None  # torch.func
        or (forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(t).tangent is not None for t in tensors))
        or any(type(t) not in (Tensor, torch.nn.Parameter) for t in tensors)
    )


def gradients_are_recorded(*tensors: Tensor) -> bool:
    """Whether autograd records operations on any of these tensors."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def numba_obstacle(features: Tensor) -> str | None:
    """The reason why Numba's kernels cannot run on this tensor; None if they can."""
    if features.device.type != "cpu":
        return f"it runs on the CPU and can't run on {features.device}"
    if features.dtype != torch.float32:
        return f"it computes in fp32, not in {features.dtype}"
    if not _NUMBA_INSTALLED:
        return 'the package numba is not installed (pip install "resfu[fast]")'
    return None
