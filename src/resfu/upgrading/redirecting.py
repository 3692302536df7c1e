"""Copy the forward of one module with its resampling calls redirected, and nothing else changed.

A forward finds `interpolate` through its globals, such as `F`, `nn.functional` or a helper function. So the functions
from the forward to the call are copied, and in the copies' globals (or closure cells, or methods of the module) these
names refer to the redirected call. Calls of inner modules are not affected, no Python module is patched, and the copy
is a plain function for `torch.compile` and `torch.export`.

The alternative, a `TorchFunctionMode` around the forward, has four drawbacks. It also sees calls of inner modules (the
position embedding of an encoder, at unusual sizes), so counting calls finds the wrong ones. It disables PyTorch's fast
path of attention, so results would not be bitwise equal. A checkpointed helper runs without it in the backward pass.
And every function in the module costs an extra Python call (`python -m benchmarks.upgrade_overhead`).
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast

from torch import nn

from resfu.upgrading.places import Spot

_DEPTH = 4  # number of names in torch.nn.functional.interpolate


class Rewiring:
    """Copies of the functions of one module.

    Args:
        owner: the module.
        base: the class that defines the module's forward.
        chains: for every call, the names of the functions from the forward to the caller.
        redirect: returns the replacement of a PyTorch function, or None.

    Attributes:
        forward: the copy of the module's forward; its first argument is the module.
        attributes: replacements of the module's methods and attributes, by name.
    """

    def __init__(
        self,
        owner: nn.Module,
        base: type[nn.Module],
        chains: Iterable[tuple[str, ...]],
        redirect: Callable[[Any], Any],
    ) -> None:
        self.owner, self.base, self.redirect = owner, base, redirect
        self.chains = set(chains)
        self.attributes: dict[str, Any] = {}
        self._copies: dict[int, FunctionType | None] = {}
        forward = inspect.getattr_static(base, "forward")
        if not isinstance(forward, FunctionType):
            raise ValueError(f"the forward of {base.__name__} must be a plain function, not {type(forward).__name__}.")
        self.forward = cast("FunctionType", self._copy(forward))

    def has(self, spot: Spot) -> bool:
        """Whether the functions still have these calls where they were: false if a file has been edited since."""
        chain, site, _ = spot
        return all(position in self._positions.get(name, ()) for name, position in zip(chain, site, strict=True))

    @cached_property
    def _positions(self) -> dict[str, set[tuple[int | None, ...]]]:
        found: dict[str, set[tuple[int | None, ...]]] = {}
        for copy in filter(None, self._copies.values()):
            for code in _nested(copy.__code__):
                found.setdefault(code.co_qualname, set()).update(code.co_positions())
        return found

    def _copy(self, function: FunctionType) -> FunctionType | None:
        if id(function) in self._copies:
            return self._copies[id(function)]
        self._copies[id(function)] = None  # while it is being made
        code = function.__code__
        inner = {nested.co_qualname for nested in _nested(code)}
        names = {name for nested in _nested(code) for name in nested.co_names}
        ways = set(self._heads(inner))
        heads = {head for way in ways for head in way}
        variables = dict(function.__globals__)
        # PyTorch's compiler would otherwise look names up in the module of this name, not in the copy.
        variables.pop("__name__", None)
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        found: set[str] = set()

        def changed(value: Any) -> Any:
            for head in heads:
                new = self._patched(value, names) if not head else self._helper(value, head, names)
                if new is not None:
                    found.add(head)
                    return new
            return None

        for name in names & variables.keys():
            variables[name] = _or(changed(variables[name]), variables[name])
        for name, cell in cells.items():
            new = None if name == "__class__" else changed(_content(cell))
            cells[name] = cell if new is None else CellType(new)
        defaults = tuple(_or(changed(value), value) for value in function.__defaults__ or ())
        for name in names:
            value = self.owner.__dict__.get(name, inspect.getattr_static(self.base, name, None))
            new = changed(value.__func__ if isinstance(value, staticmethod) else value)
            if new is not None:
                bound = isinstance(value, FunctionType) and name not in self.owner.__dict__
                self.attributes[name] = MethodType(new, self.owner) if bound else new
        for way in ways:
            if found & set(way):
                continue
            what = f"{way[0]}()" if way[0] else "the function that resamples"
            raise ValueError(
                f"{function.__qualname__} reaches {what} through a name that cannot be redirected (an import inside "
                "the function, an inherited method called by super(), an object that holds it). Leave the places of "
                f"this {self.base.__name__} out (where=[...]), or call {what} by a name at the top of its file."
            )
        copy = FunctionType(code, variables, function.__name__, defaults or None, tuple(cells.values()) or None)
        copy.__kwdefaults__ = function.__kwdefaults__
        copy.__qualname__ = function.__qualname__
        copy.__dict__.update(function.__dict__)
        variables.update({name: copy for name in names if variables.get(name) is function})  # it calls itself
        self._copies[id(function)] = copy
        return copy

    def _heads(self, inner: set[str]) -> Iterator[tuple[str, ...]]:
        """For each chain, what a function calls in it, or functions defined inside it, which share its globals.

        This is the name of the next function, or "" for PyTorch's. If there are several functions of the same name in
        a chain, such as a function that calls itself, it is the name after the last one, then those before.
        """
        for chain in self.chains:
            after = [n + 1 for n in reversed(range(len(chain))) if chain[n] in inner]
            if after:
                yield tuple(chain[n] if n < len(chain) else "" for n in after)

    def _helper(self, value: Any, name: str, names: set[str]) -> Any:
        """A copy of the function of this name, if the value is that function or wraps it."""
        if isinstance(value, FunctionType) and value.__code__.co_qualname == name:
            return self._copy(value)
        if isinstance(value, MethodType | partial):
            function = value.__func__ if isinstance(value, MethodType) else value.func
            if (new := self._helper(function, name, names)) is not None:
                return MethodType(new, value.__self__) if isinstance(value, MethodType) else _partial(new, value)
        if isinstance(value, ModuleType) and not value.__name__.startswith("torch."):
            return _module_copy(value, names, lambda item: self._helper_in_module(item, name))
        return None

    def _helper_in_module(self, value: Any, name: str) -> Any:
        return self._helper(value, name, set()) if isinstance(value, FunctionType | partial) else None

    def _patched(self, value: Any, names: set[str], depth: int = _DEPTH) -> Any:
        """The value with resampling redirected, or None if nothing changes."""
        if isinstance(value, ModuleType):
            return _module_copy(value, names, lambda item: self._patched(item, names, depth - 1)) if depth else None
        if isinstance(value, partial):
            new = self._patched(value.func, names, depth)
            return None if new is None else _partial(new, value)
        return self.redirect(value) if callable(value) else None


def _module_copy(module: ModuleType, names: set[str], change: Callable[[Any], Any]) -> ModuleType | None:
    """A copy of a Python module in which the items with these names are changed; None if none changes."""
    items = ((name, module.__dict__[name]) for name in names & module.__dict__.keys())
    changed = {name: new for name, item in items if (new := change(item)) is not None}
    if not changed:
        return None
    copy = ModuleType(module.__name__)
    copy.__dict__.update(module.__dict__, **changed)
    return copy


def _nested(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of all functions defined inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _partial(function: Any, like: partial) -> partial:
    return partial(function, *like.args, **like.keywords)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def _or(new: Any, old: Any) -> Any:
    return old if new is None else new
