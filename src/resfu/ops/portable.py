"""When operations take their portable form: standard operators alone, few of them, for compilers outside Python.

The portable form is the backend "portable". `resfu.export` and `torch.onnx.export` choose it; programs that
`torch.export` writes keep the custom operators, which `decompositions` takes apart.
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
    """Inside, operations with `backend="auto"` take their portable form."""
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def is_portable() -> bool:
    """Whether `portable_form` or `torch.onnx.export(..., dynamo=True)` is at work."""
    return _PORTABLE.get() or (torch.compiler.is_exporting() and _writes_onnx())


def _writes_onnx() -> bool:
    """Whether PyTorch's ONNX exporter is running: its module is not imported before it does."""
    flags = sys.modules.get("torch.onnx._internal.exporter._flags")
    return bool(getattr(flags, "_is_onnx_exporting", False))


def known(condition: object) -> bool:
    """Whether a comparison of sizes holds for every size that a program is made for; no guard is added to it."""
    if not in_torch_compile() and isinstance(condition, bool):  # where torch.compile traces, symbols count as bool
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(condition)  # pyright: ignore[reportArgumentType]


def whole_ratio(P: int, p: int) -> int | None:
    """r where P = r p for every size that a program is made for, else None."""
    if isinstance(P, int) and isinstance(p, int):
        return P // p if P % p == 0 else None
    numerator, denominator = (n if isinstance(n, int) else n.node.hint for n in (P, p))  # of the example
    if not numerator or not denominator:
        return None
    ratio = numerator // denominator
    return ratio if ratio * denominator == numerator and known(P == ratio * p) else None


def registered_decomposition(operator: Any) -> Callable[[_Function], _Function]:
    """Decorator: the function takes the custom operator apart where programs are decomposed.

    The table is the package's own: PyTorch's global one is also read wherever sizes are symbolic, and would take the
    place of the operator's shape rule there.
    """

    def register(function: _Function) -> _Function:
        _DECOMPOSITIONS[operator._opoverload] = function
        return function

    return register


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Every custom operator of the package by standard ones.

    `torch.export.export(...).run_decompositions(decompositions())` gives a program that runs without the package.
    `torch.onnx.export(model, ..., dynamo=True)` needs no table: it takes the portable form from the beginning.

    Returns:
        Operator to function, PyTorch's default table included.
    """
    import resfu.ops  # noqa: F401  (registers them)

    return {**torch.export.default_decompositions(), **_DECOMPOSITIONS}
