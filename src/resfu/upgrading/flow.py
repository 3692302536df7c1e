"""Trace the origin and the use of every tensor through one forward pass.

Tensors are identified by weak references, so nothing here keeps them alive.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

IMAGE, FEATURES = 1, 2  # computed from the network's input only; computed from input and parameters
_COMPARISONS = frozenset(
    ("argmax", "bool", "eq", "ge", "gt", "le", "lt", "__eq__", "__ge__", "__gt__", "__le__", "__lt__")
)
_LAYOUTS = frozenset(
    ("clone", "contiguous", "detach", "expand", "flatten", "permute", "repeat", "reshape", "squeeze", "transpose")
).union(("unflatten", "unsqueeze", "view", "__getitem__", "__get__"))
_RANGES = ("float", "half", "log_softmax", "max", "sigmoid", "sigmoid_", "softmax", "to", "type", "type_as")
# The results of these functions show the same map in another layout, dtype or range, without new content.
_SAME_MAP = _COMPARISONS | _LAYOUTS.union(_RANGES)


def tensors_in(value: Any, depth: int = 3) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """Yield the tensors in an argument or output, each with the keys that lead to it."""
    if isinstance(value, Tensor):
        yield (), value
    elif depth and isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str | int):
                yield from (((key, *keys), tensor) for keys, tensor in tensors_in(item, depth - 1))
    elif depth and isinstance(value, list | tuple):
        for n, item in enumerate(value):
            yield from (((n, *keys), tensor) for keys, tensor in tensors_in(item, depth - 1))


class Flow:
    """The origin and the later use of the tensors of a forward pass."""

    def __init__(self) -> None:
        self.origin = WeakIdKeyDictionary()
        self.fate = WeakIdKeyDictionary()  # tensor -> places whose output it shows, perhaps in another form
        self.lineage = WeakIdKeyDictionary()  # tensor -> places whose output it was computed from, at the same size
        self.used: set[int] = set()  # places with an output that is used in a computation
        self.masks: set[int] = set()  # places whose output is compared
        self.partners: dict[int, list[Any]] = {}  # place -> ids of the maps with which its output is combined

    def begin(self, inputs: Any) -> None:
        """Record the network's input."""
        for _, tensor in tensors_in(inputs):
            self.origin[tensor] = IMAGE

    def origin_of(self, tensor: Tensor) -> int:
        """IMAGE, FEATURES, or 0 for a tensor that does not depend on the input."""
        return self.origin.get(tensor, 0) or 0

    def step(self, func: Any, args: tuple, kwargs: dict[str, Any], output: Any, sources: WeakIdKeyDictionary) -> None:
        """Record one call of PyTorch."""
        outputs = [tensor for _, tensor in tensors_in(output, 1)]
        if not outputs:
            return
        inputs = [tensor for _, tensor in tensors_in((args, kwargs))]
        origin = self._origin(inputs)
        name = getattr(func, "__name__", "")
        shown = self._places(self.fate, inputs)
        if name not in _SAME_MAP:
            self.used |= shown
            shown = set()
        elif name in _COMPARISONS:
            self.masks |= shown
        for out in outputs:
            if origin > self.origin_of(out):
                self.origin[out] = origin
            if shown:
                self.fate[out] = shown
            self._continue(inputs, out, sources)

    def shown_by(self, tensors: Iterable[Tensor]) -> set[int]:
        """The places whose output these tensors show."""
        return self._places(self.fate, tensors)

    def placed(self, number: int, output: Tensor) -> None:
        """Record the output of the place with this number."""
        self.fate[output] = {number}
        self.lineage[output] = {number}

    def finished(self, module: nn.Module, inputs: Any, outputs: list[Tensor]) -> None:
        """Set the origin of a module's outputs if an operation has hidden it."""
        unknown = [out for out in outputs if not self.origin_of(out)]
        if unknown:
            origin = max((self.origin_of(tensor) for _, tensor in tensors_in(inputs)), default=0)
            if origin and next(module.parameters(), None) is not None:
                origin = FEATURES
            for out in unknown:
                self.origin[out] = origin

    def _origin(self, inputs: Iterable[Tensor]) -> int:
        origin, learned = 0, False
        for tensor in inputs:
            origin = max(origin, self.origin_of(tensor))
            learned = learned or isinstance(tensor, nn.Parameter)
        return FEATURES if origin and learned else origin

    def _continue(self, inputs: list[Tensor], out: Tensor, sources: WeakIdKeyDictionary) -> None:
        """Follow a place's output, at its size, until it is combined with another map of the same size."""
        places = self._places(self.lineage, inputs)
        if not places or out.shape[2:] != next(t for t in inputs if self.lineage.get(t)).shape[2:]:
            return
        maps = [t for t in inputs if t.dim() == 4 and not isinstance(t, nn.Parameter)]
        others = [t for t in maps if t.shape[2:] == out.shape[2:] and not self.lineage.get(t)]
        if not others:
            self.lineage[out] = places | self._places(self.lineage, [out])
            return
        for place in places:
            met = self.partners.setdefault(place, [])
            met.extend(source for tensor in others for source in sources.get(tensor) or ())
        if out in self.lineage:  # combined in place
            del self.lineage[out]

    @staticmethod
    def _places(table: WeakIdKeyDictionary, inputs: Iterable[Tensor]) -> set[int]:
        return set().union(*(table.get(tensor) or set() for tensor in inputs))
