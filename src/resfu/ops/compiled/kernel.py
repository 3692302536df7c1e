"""How kernels are compiled."""

from collections.abc import Callable
from typing import Any

from numba import njit

# Fused multiply-adds are allowed, and the sign of 0 is open. What is not finite keeps its rules.
_FAST = {"contract", "nsz"}


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function on its first call, into a cache on the disk where there is room for one.

    It releases the interpreter's lock. Division by 0 gives an infinity or no number, as everywhere in PyTorch.
    """
    options = {"nogil": True, "fastmath": _FAST, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written to
        return njit(**options)(function)
