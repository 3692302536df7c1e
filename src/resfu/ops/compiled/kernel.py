"""How kernels are compiled."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, no_type_check

from numba import njit

from resfu.ops.compiled.sharing import share
from resfu.ops.compiled.stamp import stamp_by_contents

# Fused multiply-adds are allowed, and the sign of 0 is open. What is not finite keeps its rules.
_FAST = {"contract", "nsz"}


def kernel(function: FunctionType, from_python: bool = True) -> Callable[..., Any]:
    """Compile a function on its first call, into a cache on the disk where there is room for one.

    It releases the interpreter's lock. Division by 0 gives an infinity or no number, as everywhere in PyTorch. Nobody
    counts references to its arrays, which the caller holds: threads would wait for each other's counts.

    Args:
        function: of numbers and flat arrays.
        from_python: whether it is called from Python, and not from compiled code alone.
    """
    options = {
        "nogil": True, "fastmath": _FAST, "error_model": "numpy", "no_cfunc_wrapper": True,
        "no_cpython_wrapper": not from_python, "_nrt": False,
    }  # fmt: skip
    try:
        compiled = njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written to
        return njit(**options)(function)
    stamp_by_contents(compiled, function)
    return compiled


def shared_kernel(function: FunctionType) -> Callable[..., Any]:
    """A kernel (first, last, thread, ...) as what `threads.run` takes: some pieces of work, and which thread does them.

    Numba's cache knows a function by its file, name and line: the launcher has those of the kernel.
    """
    place = function.__code__
    code = _launcher.__code__.replace(
        co_filename=place.co_filename, co_firstlineno=place.co_firstlineno, co_name=f"{place.co_name}_in_threads",
        co_qualname=f"{place.co_qualname}_in_threads",
    )  # fmt: skip
    launcher = FunctionType(code, {"share": share, "kernel": kernel(function, False), "__name__": function.__module__})
    launcher.__doc__ = function.__doc__
    return kernel(launcher)


@no_type_check
def _launcher(team, counters, *arguments):
    share(kernel, team, counters, arguments)
