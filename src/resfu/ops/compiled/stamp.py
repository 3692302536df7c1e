"""What a compiled kernel is made of, so that no kernel on the disk outlives a change of something that it calls.

Numba keeps compiled functions on the disk and compiles them again when their own file changes. But kernels contain
what they call, and that may stand in other files.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

from numba.core.dispatcher import Dispatcher


def stamp_by_contents(kernel: Any, function: FunctionType) -> None:
    """Have Numba tell by `contents` whether the kernel of a function that it finds on the disk is still the same."""
    index = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
    if index is not None:
        index._source_stamp = contents(function)


def contents(function: FunctionType) -> str:
    """A hash of all files from which a kernel is compiled, and of the numbers that their modules know by name.

    The files are those of this package, which has the parts of all kernels, that of the kernel's module, and those of
    the modules whose kernels it uses.
    """
    files, numbers = set(Path(__file__).parent.glob("*.py")), set()
    for known in _modules(function.__globals__, set()):
        files |= {Path(known["__file__"])} if known.get("__file__") else set()
        numbers |= {
            (known["__name__"], name, value) for name, value in known.items() if isinstance(value, (int, float))
        }
    whole = repr([*(_hash(file) for file in sorted(files)), *sorted(numbers)])
    return hashlib.sha256(whole.encode()).hexdigest()


def _modules(known: dict[str, Any], seen: set[int]) -> Iterator[dict[str, Any]]:
    """What the functions of a module know by name, and those of the modules whose kernels it knows."""
    seen.add(id(known))
    yield known
    for value in list(known.values()):
        if isinstance(value, Dispatcher) and id(value.py_func.__globals__) not in seen:
            yield from _modules(value.py_func.__globals__, seen)


@cache
def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
