"""Compiled kernels in several threads: those that PyTorch's operators run in, as many of them.

They wait for work busily for a while after each operator. Threads of our own beside them would find no free processor.
"""

import ctypes
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor

_PIECES = 4  # for each thread, so that one that is held up has fewer
_LARGE = 1 << 22  # numbers of a result that does not stay in the cache: 16 MB in fp32
_pool: tuple[int, int, ThreadPoolExecutor] | None = None  # process, threads
_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


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
    numbers, errors = iter(range(threads)), []

    def work(_: object = None) -> None:
        thread = next(numbers)
        try:
            for first, last in pieces:
                task(first, last, thread)
        except BaseException as error:  # raised again where it is not lost
            errors.append(error)

    parallel = _openmp()
    if parallel is not None:
        parallel(_Callback(work), None, threads, 0)
    else:
        helpers = [_executor(threads - 1).submit(work) for _ in range(1, threads)]
        work()
        for helper in helpers:
            helper.result()
    if errors:
        raise errors[0]


def scratch(size: int) -> Any:
    """Room for so many fp32 numbers for each thread, as an array for kernels."""
    return torch.empty(size * torch.get_num_threads(), dtype=torch.float32, device="cpu").numpy()


def past_the_cache(out: Tensor) -> int:
    """1 where a result is large enough to be stored past the cache, and its rows are whole vectors that allow it."""
    vector = 64  # bytes
    aligned = out.data_ptr() % vector == 0 and out.shape[-1] * out.element_size() % vector == 0
    return int(aligned and out.numel() >= _LARGE)


def flat(x: Tensor) -> Any:
    """The elements of a map as an array for kernels; a copy where they do not lie in order."""
    return x.detach().numpy().ravel()  # `reshape` would leave the strides of an expanded number


@cache
def _openmp() -> Any:
    """The function of PyTorch's own OpenMP library that runs another in all threads; None where it has another one."""
    if "OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        parallel = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (AttributeError, OSError):
        return None
    parallel.argtypes = (_Callback, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None
    return parallel


def _executor(threads: int) -> ThreadPoolExecutor:
    """The threads of this process: those of the one it was forked from are not there."""
    global _pool
    if _pool is None or _pool[0] != os.getpid() or _pool[1] < threads:
        _pool = os.getpid(), threads, ThreadPoolExecutor(threads, "resfu")
    return _pool[2]
