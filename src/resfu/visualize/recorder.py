"""What a network's slots and upsamplers are called with in one forward pass, whatever network it is."""

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
        module: the network's own; look, do not change.
        inputs: what it was called with, by the names of the arguments of its `forward`.
        output: [B, C, H, W].
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Any]
    output: Tensor

    @property
    def features(self) -> Tensor:
        """[B, C, h, w], what came in."""
        return self.inputs["features"]

    @property
    def guidance(self) -> Any:
        """[B, c, H, W] of an upsampler; None where it was given none."""
        return self.inputs.get("guidance")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the output."""
        return self.output.shape[-2], self.output.shape[-1]


@contextmanager
def recorded(network: nn.Module) -> Iterator[list[RecordedCall]]:
    """Record the calls of slots and upsamplers while the block runs.

    An upsampler inside another (a step of Stack-JBU) is part of that one and not recorded; the steps of a chain of x2
    are upsamplers of their own.

    Args:
        network: with or without slots.

    Yields:
        The calls so far, in the order in which they end: those inside a slot come before the slot's.
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
