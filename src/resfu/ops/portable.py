"""The portable form of the operations, for export to other runtimes: a few standard operators, no custom ones.

The portable form is the backend "portable". `resfu.export` and `torch.onnx.export` choose it. Programs written by
`torch.export` keep the custom operators, which `decompositions` replaces by standard ones.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch

from resfu.ops.compiling import in_torch_compile

_Function = TypeVar("_Function", bound=Callable[..., Any])
_DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {}
_PORTABLE: ContextVar[bool] = ContextVar("resfu_portable", default=False)


@contextmanager
def portable_form() -> Iterator[None]:
    """Context manager inside which operations with `backend="auto"` take their portable form."""
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def is_portable() -> bool:
    """Whether the call is inside `portable_form` or `torch.onnx.export(..., dynamo=True)`."""
    return _PORTABLE.get() or (torch.compiler.is_exporting() and _writes_onnx())


def _writes_onnx() -> bool:
    """Whether PyTorch's ONNX exporter is running; its module is only imported when it runs."""
    flags = sys.modules.get("torch.onnx._internal.exporter._flags")
    return bool(getattr(flags, "_is_onnx_exporting", False))


def known(condition: object) -> bool:
    """Whether a comparison of sizes holds for all sizes of the program being traced, without adding a guard to it."""
    if not in_torch_compile() and isinstance(condition, bool):  # in torch.compile, symbolic conditions count as bool
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(condition)  # pyright: ignore[reportArgumentType]


def whole_ratio(P: int, p: int) -> int | None:
    """The integer r for which P = r p for all sizes of the program being traced, else None."""
    if isinstance(P, int) and isinstance(p, int):
        return P // p if P % p == 0 else None
    numerator, denominator = (n if isinstance(n, int) else n.node.hint for n in (P, p))  # the example's sizes
    if not numerator or not denominator:
        return None
    ratio = numerator // denominator
    return ratio if ratio * denominator == numerator and known(P == ratio * p) else None


def registered_decomposition(operator: Any) -> Callable[[_Function], _Function]:
    """Decorator that registers a function as the decomposition of a custom operator into standard ones.

    The table belongs to this package. PyTorch also uses its own global table whenever sizes are symbolic; there the
    decomposition would replace the operator's shape rule.
    """

    def register(function: _Function) -> _Function:
        _DECOMPOSITIONS[operator._opoverload] = function
        return function

    return register


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Decompositions of all custom operators of this package into standard operators.

    `torch.export.export(...).run_decompositions(decompositions())` gives a program that runs without this package.
    `torch.onnx.export(model, ..., dynamo=True)` does not need the table: it traces the portable form.

    Returns:
        A dictionary from operators to functions, which includes PyTorch's default table.
    """
    import resfu.ops  # noqa: F401  (registers them)

    return {**torch.export.default_decompositions(), **_DECOMPOSITIONS}
