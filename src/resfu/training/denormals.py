"""Trainings take denormal numbers, the nonzero ones below 1.2e-38, as 0: Intel's processors are slow with them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """A context in which this thread, and threads that it starts there, take denormal numbers as 0.

    A softmax that has become certain has such weights, and so have its gradients. A pass of CARAFE then takes
    34 times as long on an Intel Xeon (docs/performance.md). Threads that run already keep their mode, and processors
    without this mode are left as they are.
    """
    before = _flushed()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _flushed() -> bool:
    """Whether this thread takes denormal numbers as 0."""
    return torch.tensor(2.0**-126).div(2).item() == 0
