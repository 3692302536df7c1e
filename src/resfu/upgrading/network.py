"""An upgraded module: a subclass of its original class that runs the upsamplers in its forward."""

import functools
import inspect
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn

from resfu.ops.compiling import in_torch_compile
from resfu.upgrading.owner import Owner
from resfu.upgrading.passing import Pass
from resfu.upgrading.redirecting import Rewiring

RECORD, FORWARD, ORIGINAL, MODULES = "_upgraded", "_upgraded_forward", "_upgraded_originals", "resfu"
_EDITS = (
    "__setitem__",
    "__delitem__",
    "append",
    "extend",
    "insert",
    "pop",
    "__iadd__",
    "__add__",
    "__imul__",
    "__mul__",
)


class Record:
    """The data of an upgraded module.

    Args:
        owner: the places in the module's forward, if there are any.
        root: the state of the pass, if the module is the whole network.
        plan: the content of the plan file, if the module is the whole network.
    """

    def __init__(self, owner: Owner | None, root: Pass | None = None, plan: dict[str, Any] | None = None) -> None:
        self.owner, self.root, self.plan = owner, root, plan


def become_upgraded(module: nn.Module, record: Record) -> None:
    """Turn a module into an upgraded one.

    Raises:
        ValueError: for a forward that cannot be redirected.
    """
    base = type(module)
    if "forward" in module.__dict__:
        raise ValueError(
            f"the forward of this {base.__name__} has been replaced on the object itself (by accelerate's hooks, or "
            "torch.compile): upgrade the network before that."
        )
    if issubclass(base, torch.fx.GraphModule):
        raise ValueError(
            "this is a torch.fx.GraphModule, which rewrites its class when it is copied or recompiled: upgrade the "
            "network before it is traced."
        )
    if issubclass(base, nn.ModuleDict | nn.ModuleList) and record.owner is not None and record.owner.replacements:
        raise ValueError(f"{base.__name__} is a {base.__mro__[1].__name__}: its upsamplers would be among its items.")
    module.__dict__[RECORD] = record
    try:
        _rewire(module, base)
    except ValueError:
        del module.__dict__[RECORD]
        raise
    module.__class__ = _upgraded(base)


def is_upgraded(module: nn.Module) -> bool:
    """Whether places in this network have been replaced."""
    record = module.__dict__.get(RECORD)
    return record is not None and record.root is not None


@functools.cache
def _upgraded(base: type[nn.Module]) -> type[nn.Module]:
    """The class of an upgraded module, a subclass of its original class."""

    @functools.wraps(inspect.getattr_static(base, "forward"))
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        record = self.__dict__[RECORD]
        inner = self.__dict__.get(FORWARD, base.forward)
        if in_torch_compile() and MODULES in self._modules:
            _look_at(self._modules[MODULES])
        if record.root is None:
            return inner(self, *args, **kwargs)
        opened = record.root.open(self.training)
        try:
            out = inner(self, *args, **kwargs)
            if opened:
                record.root.check_complete()
            return out
        finally:
            if opened:
                record.root.close()

    def setstate(self: nn.Module, state: tuple[Record, Any]) -> None:
        record, own = state
        base.__setstate__(self, own)
        self.__dict__[RECORD] = record
        _rewire(self, base)

    methods = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "forward": forward,
        "__setstate__": setstate,
        "__reduce_ex__": lambda self, protocol: (_blank, (base,), _state(self)),
        "_replicate_for_data_parallel": _refuse_data_parallel,
    }
    if issubclass(base, nn.Sequential):
        # The upsamplers are not steps of the sequence.
        methods["__iter__"] = lambda self: _steps(self)
        methods["__len__"] = lambda self: sum(1 for _ in _steps(self))
        methods["__getitem__"] = lambda self, index: _item(base, self, index)
        methods |= {name: _edit(getattr(base, name)) for name in _EDITS if hasattr(base, name)}
    return cast("type[nn.Module]", type(base.__name__, (base,), methods))


def _steps(sequence: nn.Module) -> Iterator[nn.Module | None]:
    return (module for name, module in sequence._modules.items() if name != MODULES)


def _look_at(modules: Any) -> None:
    """Access the upsamplers as submodules, so that torch.compile finds them in the network.

    Otherwise it finds them in the globals of a copied function. It gives these globals a new name each time it
    restarts, and it restarts for every number that it treated as dynamic, such as a norm's `eps`. If all sizes are
    dynamic, it restarts without end (seen with 2.14).
    """
    for module in modules.values():
        module.training  # noqa: B018


def _item(base: type[nn.Module], sequence: nn.Module, index: int | slice) -> nn.Module | None:
    """One step, or a slice of the steps as a sequence of the original class."""
    steps = [(name, module) for name, module in sequence._modules.items() if name != MODULES]
    return base(OrderedDict(steps[index])) if isinstance(index, slice) else steps[index][1]


def _edit(method: Any) -> Any:
    """A method that changes the steps of a sequence, without the upsamplers being among the steps."""

    @functools.wraps(method)
    def edited(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        modules = self._modules.pop(MODULES, None)
        try:
            return method(self, *args, **kwargs)
        finally:
            if modules is not None:
                self._modules[MODULES] = modules

    return edited


def _rewire(module: nn.Module, base: type[nn.Module]) -> None:
    """Create the copied functions of this object and set them as attributes."""
    owner = module.__dict__[RECORD].owner
    if owner is None:
        return
    rewiring = Rewiring(module, base, owner.chains, owner.redirect)
    if not all(rewiring.has(spot) for spots in owner.spots.values() for spot in spots.found):
        owner.spots = {}
    module.__dict__[ORIGINAL] = {name: module.__dict__.get(name) for name in rewiring.attributes}
    module.__dict__.update(rewiring.attributes)
    module.__dict__[FORWARD] = rewiring.forward


def _state(module: nn.Module) -> tuple[Record, Any]:
    """The state for copying and pickling: the record, and the state of the original class without copied functions."""
    originals = module.__dict__.get(ORIGINAL, {})
    state: Any = module.__getstate__()
    if isinstance(state, dict):
        state = {name: value for name, value in state.items() if name not in (RECORD, FORWARD, ORIGINAL, *originals)}
        state |= {name: value for name, value in originals.items() if value is not None}
    return module.__dict__[RECORD], state


def _blank(base: type[nn.Module]) -> nn.Module:
    kind = _upgraded(base)
    return kind.__new__(kind)


def _refuse_data_parallel(self: nn.Module) -> nn.Module:
    raise ValueError(
        "the copies that nn.DataParallel makes of an upgraded network would use the original's upsamplers: use "
        "DistributedDataParallel."
    )
