"""How long a call takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Latency:
    """Times of repeated calls, in milliseconds.

    Args:
        median_ms: half of the calls took less.
        lower_quartile_ms: a quarter of the calls took less.
        upper_quartile_ms: three quarters of the calls took less.
        repeats: number of calls measured.
    """

    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    repeats: int

    @property
    def spread_ms(self) -> float:
        """Distance between the quartiles."""
        return self.upper_quartile_ms - self.lower_quartile_ms


def latency(
    function: Callable[..., Any], *inputs: Any, repeats: int = 20, warmup: int = 3, grad: bool = False
) -> Latency:
    """Measure wall-clock time from the call to the finished result.

    On CUDA the device is synchronised before and after each call, so that the time holds both the launch and the work.

    Args:
        function: a module or function; a module runs in the mode it is in (call `.eval()` first).
        *inputs: what it is called with.
        repeats: calls measured.
        warmup: calls before those, not measured.
        grad: record gradients, as training does.

    Returns:
        Median and quartiles.

    Raises:
        ValueError: for fewer than one repeat or a negative warm-up.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"repeats must be at least 1 and warmup at least 0, got {repeats} and {warmup}.")
    times = []
    with torch.set_grad_enabled(grad):
        for turn in range(warmup + repeats):
            _wait()
            start = time.perf_counter()
            function(*inputs)
            _wait()
            if turn >= warmup:
                times.append(1000 * (time.perf_counter() - start))
    quartiles = torch.tensor(times, dtype=torch.float64).quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    lower, median, upper = quartiles.tolist()
    return Latency(median, lower, upper, repeats)


def _wait() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
