"""Which backend runs an operation, and why another can't."""

from importlib.util import find_spec

from torch import Tensor

from resfu.ops.portable import is_portable

BACKENDS = ("auto", "reference", "cpu", "triton", "portable")
_TRITON_INSTALLED = find_spec("triton") is not None


def which_backend(features: Tensor, backend: str = "auto") -> str:
    """The backend that an operation on this tensor runs with.

    Args:
        features: the tensor; its device decides.
        backend: the request, one of `BACKENDS`.

    Returns:
        "cpu", "triton", "portable" or "reference". "auto" takes "portable" where a program for another runtime is
        written, "cpu" for CPU tensors, "triton" for CUDA tensors where Triton is installed, and "reference" elsewhere.

    Raises:
        ValueError: for an unknown backend, or one that can't run on the tensor's device, with the reason.
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
    if obstacle:
        raise ValueError(f"backend={backend!r}: {obstacle}. Move the tensors or use backend='auto'.")
    if backend != "auto":
        return backend
    if is_portable():
        return "portable"
    return "cpu" if device == "cpu" else "triton" if device == "cuda" and _TRITON_INSTALLED else "reference"
