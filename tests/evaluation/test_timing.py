"""Latency of calls whose time is known."""

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from resfu.evaluation.cost import Latency, latency, rounds


def test_median_and_quartiles_of_known_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    pauses = iter([200, 1, 20, 10, 30, 40])  # milliseconds; the first is warm-up

    def call() -> None:
        nonlocal now
        now += next(pauses) / 1000

    monkeypatch.setattr("resfu.evaluation.cost.timing.time", SimpleNamespace(perf_counter=lambda: now))
    measured = latency(call, repeats=5, warmup=1)
    assert measured.repeats == 5
    times = (measured.lower_quartile_ms, measured.median_ms, measured.upper_quartile_ms)
    assert times == pytest.approx((10, 20, 30))


def test_a_real_pause_is_in_milliseconds() -> None:
    assert 5 <= latency(time.sleep, 0.005, repeats=3, warmup=0).median_ms < 500


def test_gradients_only_on_request() -> None:
    recorded = []
    x = torch.ones(2, requires_grad=True)
    for grad in (False, True):
        latency(lambda x: recorded.append((x * 2).requires_grad), x, repeats=1, warmup=0, grad=grad)
    assert recorded == [False, True]


def test_contenders_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = 0.0, []

    def contender(name: str, pause: float) -> Callable[[], None]:
        def call() -> None:
            nonlocal now
            now += pause * (1 + calls.count(name))
            calls.append(name)

        return call

    def slow_report(name: str) -> None:
        nonlocal now
        now += 100
        calls.append(f"{name} done")

    monkeypatch.setattr("resfu.evaluation.cost.timing.time", SimpleNamespace(perf_counter=lambda: now))
    times = rounds({"a": contender("a", 1), "b": contender("b", 2)}, repeats=3, warmup=1, on_turn=slow_report)
    assert calls == ["a", "a done", "b", "b done"] * 4
    assert times == {"a": pytest.approx([2000, 3000, 4000]), "b": pytest.approx([4000, 6000, 8000])}
    measured = Latency.of(times["b"])
    assert (measured.lower_quartile_ms, measured.median_ms, measured.upper_quartile_ms) == pytest.approx(
        (5e3, 6e3, 7e3)
    )
    assert measured.repeats == 3


def test_bad_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats must be at least 1, warmup and settle at least 0, got 0, 3 and 0"):
        latency(lambda: None, repeats=0)
    with pytest.raises(ValueError, match="got 1, -1 and 0"):
        rounds({}, 1, -1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_work_on_the_gpu_is_waited_for() -> None:
    cycles = 20_000_000  # about 10 ms; the launch alone takes microseconds
    assert latency(torch.cuda._sleep, cycles, repeats=3).median_ms > 2
