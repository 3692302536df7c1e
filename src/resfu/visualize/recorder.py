"""Records the arguments and outputs of a network's slots and upsamplers during a forward pass."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from resfu.hosts.slot import Slot
from resfu.upsamplers import Upsampler


@dataclass(frozen=True)
class RecordedCall:
    """One call of a slot or an upsampler.

    Attributes:
        name: of the module, as the network's `named_modules` has it.
        module: the network's own module, not a copy: do not change it.
        inputs: the arguments of the call, by the parameter names of the module's `forward`.
        output: [B, C, H, W].
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Any]
    output: Tensor

    @property
    def features(self) -> Tensor:
        """The features that were passed in, [B, C, h, w]."""
        return self.inputs["features"]

    @property
    def guidance(self) -> Any:
        """The guidance that was passed in, [B, c, H, W] for an upsampler; None if there was none."""
        return self.inputs.get("guidance")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the output."""
        return self.output.shape[-2], self.output.shape[-1]


@contextmanager
def recorded(network: nn.Module) -> Iterator[list[RecordedCall]]:
    """Record the calls of slots and upsamplers while the block runs.

    An upsampler inside another upsampler (a step of Stack-JBU) is not recorded. The steps of a chain of x2 upsamplers
    are recorded separately.

    Args:
        network: with or without slots.

    Yields:
        The list of calls so far, in the order in which they end: the calls inside a slot come before the slot's own.
    """
    found = {name: module for name, module in network.named_modules() if isinstance(module, Slot | Upsampler)}
    upsamplers = [name for name, module in found.items() if isinstance(module, Upsampler)]
    parts = {name for name in found for outer in upsamplers if name.startswith(f"{outer}.")}
    calls: list[RecordedCall] = []
    hooks = [
        module.register_forward_hook(partial(_note, calls, name), with_kwargs=True)
        for name, module in found.items()
        if name not in parts
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _note(
    calls: list[RecordedCall],
    name: str,
    module: nn.Module,
    inputs: tuple[Any, ...],
    options: dict[str, Any],
    output: Tensor,
) -> None:
    named = inspect.signature(module.forward).bind(*inputs, **options).arguments
    calls.append(RecordedCall(name, module, named, output))
