"""Types and shapes of the package are checked at every call, but not where that costs much and finds nothing.

pytest's option `--jaxtyping-packages` wraps every function. Wrapping takes a millisecond, and a function inside another
one would be wrapped anew at each call; comparing shapes takes a tenth of one, also where no annotation has any.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, get_args

import jaxtyping
from beartype import beartype

_whole = jaxtyping.jaxtyped


def install() -> None:
    """Before the package is imported: what the option puts before each function is looked up in jaxtyping."""
    jaxtyping.jaxtyped = _checked


def _checked(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        if not inspect.isfunction(function) or any(map(_needs_all, function.__annotations__.values())):
            return _whole(function, typechecker=typechecker)
        return function if "<locals>" in function.__qualname__ else _of_types(function)

    return decorate


def _of_types(function: Callable[..., Any]) -> Callable[..., Any]:
    typed = beartype(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (function if jaxtyping.config.jaxtyping_disable else typed)(*args, **kwargs)

    return call


def _needs_all(hint: Any) -> bool:
    """Has it the shape of an array, or a name that only jaxtyping can do without?"""
    if isinstance(hint, str):
        return True
    return (inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)) or any(map(_needs_all, get_args(hint)))
