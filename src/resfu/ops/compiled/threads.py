"""Compiled kernels in several threads: as many as PyTorch's operators run in."""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_pool: tuple[int, int, ThreadPoolExecutor] | None = None  # process, threads
_PIECES = 4  # for each thread, so that one that is held up has fewer


def run(task: Callable[[int, int, int], object], count: int) -> None:
    """Call task(first, one past the last, thread) until all of `count` pieces of work are done.

    A task releases the interpreter's lock. Which thread does what is open; a result must not depend on it.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        task(0, count, 0)
        return
    bounds = [count * i // (threads * _PIECES) for i in range(threads * _PIECES + 1)]
    pieces = iter([(a, b) for a, b in itertools.pairwise(bounds) if a < b])  # next() of it is atomic

    def work(thread: int) -> None:
        for first, last in pieces:
            task(first, last, thread)

    helpers = [_executor(threads - 1).submit(work, thread) for thread in range(1, threads)]
    work(0)
    for helper in helpers:
        helper.result()


def _executor(threads: int) -> ThreadPoolExecutor:
    """The threads of this process: those of the one it was forked from are not there."""
    global _pool
    if _pool is None or _pool[0] != os.getpid() or _pool[1] < threads:
        _pool = os.getpid(), threads, ThreadPoolExecutor(threads, "resfu")
    return _pool[2]


def scratch(size: int) -> Any:
    """Room for so many fp32 numbers for each thread, as an array for kernels."""
    return torch.empty(size * torch.get_num_threads(), dtype=torch.float32, device="cpu").numpy()
