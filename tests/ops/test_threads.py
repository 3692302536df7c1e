"""How the work of compiled kernels is shared out among threads."""

import numpy as np
import pytest
import torch

pytest.importorskip("numba", reason="needs the extra fast (numba)")

from resfu.ops.compiled import threads
from resfu.ops.compiled.kernel import kernel, shared_kernel
from resfu.ops.compiled.memory import get, put


@shared_kernel
def count_visits(first, last, thread, visits, threads_of):
    for i in range(first, last):
        put(visits, i, get(visits, i) + 1)
        put(threads_of, i, thread)


@shared_kernel
def fail_at_the_end(first, last, thread, count):
    if last == count:
        raise ValueError("the last piece")


@pytest.fixture(params=["alone", "openmp", "pool"])
def number(request, monkeypatch):
    """How many threads there are: in PyTorch's own library, or in a pool where PyTorch has none that is known."""
    number = 1 if request.param == "alone" else 3
    monkeypatch.setattr(torch, "get_num_threads", lambda: number)
    if request.param == "pool":
        monkeypatch.setattr(threads, "_parallel", lambda: 0)
    elif request.param == "openmp" and not threads._parallel():
        pytest.skip("PyTorch has no OpenMP library here")
    return number


@pytest.mark.parametrize("count", [0, 1, 2, 3, 11, 12, 13, 1000])
def test_every_piece_is_done_once(number, count):
    visits, threads_of = np.zeros(count, np.int64), np.zeros(count, np.int64)
    threads.run(count_visits, count, visits, threads_of)
    assert (visits == 1).all()
    assert ((threads_of >= 0) & (threads_of < number)).all()


def test_an_error_in_a_thread_is_raised(number):
    with pytest.raises(RuntimeError, match="fail_at_the_end"):
        threads.run(fail_at_the_end, 10, 10)


def test_every_thread_takes_a_share(monkeypatch):
    if not threads._parallel():
        pytest.skip("PyTorch has no OpenMP library here")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    visits, threads_of = np.zeros(100_000, np.int64), np.zeros(100_000, np.int64)
    for _ in range(200):
        threads.run(count_visits, 100_000, visits, threads_of)
        if len(set(threads_of.tolist())) == 2:
            return
    pytest.fail("one thread did all of the work 200 times")


def test_kernels_count_no_references():
    """Each inner call would count those of its arrays in memory that all threads share."""
    scope = {}
    exec("def inner(x, i):\n    x[i] += 1", scope)  # without a file: compiled here, not read from a cache
    scope["inner"] = kernel(scope["inner"])
    exec("def outer(x, count):\n    for i in range(count):\n        inner(x, i)", scope)
    outer, numbers = kernel(scope["outer"]), torch.zeros(4)
    outer(numbers.numpy(), 3)
    assert numbers.tolist() == [1, 1, 1, 0]
    (code,) = outer.inspect_llvm().values()
    assert "outer" in code
    assert "NRT_" not in code
