"""Run a network without gradients in evaluation mode, and restore its state."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from resfu.upgrading.flow import tensors_in


@contextmanager
def evaluating(model: nn.Module, inputs: Any) -> Iterator[None]:
    """A context in evaluation mode; at the end every module's mode and the random generators' states are restored."""
    with restoring(model, inputs):
        model.eval()
        yield


@contextmanager
def restoring(model: nn.Module, inputs: Any) -> Iterator[None]:
    """At the end, restore every module's mode, and the random generators of the CPU and of the inputs' devices."""
    modes = {module: module.training for module in model.modules()}
    devices = {tensor.get_device() for _, tensor in tensors_in(inputs) if tensor.is_cuda}
    try:
        with torch.random.fork_rng(devices=sorted(devices)):
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def run(model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run one forward pass without gradients."""
    with torch.no_grad():
        return model(*args, **kwargs)


def milliseconds(model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> float:
    """The time of a forward pass in milliseconds, after one pass to warm up.

    Raises:
        ValueError: for inputs that the network does not take.
    """
    try:
        run(model, args, kwargs)
    except (AssertionError, RuntimeError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):  # the latter on the CPU
            raise
        names = [*("" for _ in args), *(f"{name}=" for name in kwargs)]
        given = ", ".join(
            f"{name}{_described(value)}" for name, value in zip(names, [*args, *kwargs.values()], strict=True)
        )
        raise ValueError(
            f"{type(model).__name__} does not take the inputs given ({given}): {' '.join(str(error).split())}. Call it "
            "as your training loop does; keyword arguments go into named_inputs={...}."
        ) from error
    synchronize((args, kwargs))
    began = time.perf_counter()
    run(model, args, kwargs)
    synchronize((args, kwargs))
    return 1e3 * (time.perf_counter() - began)


def _described(value: Any) -> str:
    """A tensor's dtype and shape, or the type of anything else."""
    is_tensor = isinstance(value, torch.Tensor)
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}" if is_tensor else type(value).__name__


def synchronize(inputs: Any) -> None:
    """Wait until the device of the inputs has finished its work, so that it can be timed."""
    if any(tensor.is_cuda for _, tensor in tensors_in(inputs)):
        torch.cuda.synchronize()
