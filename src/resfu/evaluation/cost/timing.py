"""The time of calls, alone or side by side."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

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

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Self:
        """Median and quartiles of measured times, interpolated linearly between them."""
        fractions = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
        lower, median, upper = torch.tensor(times_ms, dtype=torch.float64).quantile(fractions).tolist()
        return cls(median, lower, upper, len(times_ms))


def latency(
    function: Callable[..., Any], *inputs: Any, repeats: int = 20, warmup: int = 3, grad: bool = False
) -> Latency:
    """Measure wall-clock time from the call to the finished result.

    On CUDA the device is synchronised before and after each call, so the time includes both launch and work.

    Args:
        function: a module or function; a module runs in its current mode (call `.eval()` first).
        *inputs: its arguments.
        repeats: calls measured.
        warmup: calls before those, not measured.
        grad: record gradients, as in training.

    Returns:
        Median and quartiles.

    Raises:
        ValueError: for fewer than one repeat or a negative warm-up.
    """
    with torch.set_grad_enabled(grad):
        return Latency.of(rounds({"": lambda: function(*inputs)}, repeats, warmup)[""])


def rounds(
    contenders: Mapping[str, Callable[[], Any]],
    repeats: int = 9,
    warmup: int = 1,
    settle: int = 0,
    on_turn: Callable[[str], Any] | None = None,
) -> dict[str, list[float]]:
    """Time several calls in turn within every round: load on the machine then slows all of them alike.

    Each call is timed as in `latency`.

    Args:
        contenders: the calls, by name.
        repeats: rounds measured.
        warmup: rounds before those, not measured.
        settle: unmeasured calls before the measured one in each turn. With 1, a contender works in memory that it has
            touched before; with 0, it pays for fresh pages if the one before released much memory.
        on_turn: called with a contender's name after each of its turns, outside the measured time.

    Returns:
        Milliseconds of every measured round, by name.

    Raises:
        ValueError: for fewer than one repeat or a negative warm-up.
    """
    if repeats < 1 or min(warmup, settle) < 0:
        raise ValueError(
            f"repeats must be at least 1, warmup and settle at least 0, got {repeats}, {warmup} and {settle}."
        )
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warmup + repeats):
        for name, call in contenders.items():
            for _ in range(settle):
                call()
            _wait()
            start = time.perf_counter()
            result = call()
            _wait()
            taken = 1000 * (time.perf_counter() - start)
            del result  # its release is not part of the call
            if turn >= warmup:
                times[name].append(taken)
            if on_turn:
                on_turn(name)
    return times


def _wait() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
