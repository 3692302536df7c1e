"""Compiled kernels in several threads: those that PyTorch's operators run in, as many of them.

They wait for work busily for a while after each operator. Threads of our own beside them would find no free processor.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor

from resfu.ops.compiled.sharing import FAILED

_SHARES = 4  # for each thread, so that one that is held up has fewer
_LARGE = 1 << 22  # numbers of a result that does not stay in the cache: 16 MB in fp32
_pool: tuple[int, int, ThreadPoolExecutor] | None = None  # process, threads


def run(kernel: Callable[..., Any], count: int, *arguments: Any) -> None:
    """Have a `shared_kernel` do all of `count` pieces of work, in shares of the same size.

    Which thread does which share is open; a result must not depend on it.

    Args:
        kernel: of (first, one past the last, thread, *arguments).
        count: pieces of work.
        arguments: numbers, and flat arrays of fp32, fp64 or int64.

    Raises:
        RuntimeError: where the kernel failed.
    """
    threads = min(torch.get_num_threads(), count)
    parallel = _parallel() if threads > 1 else 0
    counters = torch.zeros(3, dtype=torch.int64, device="cpu").numpy()
    team = (parallel, threads, count, min(count, threads * _SHARES) if threads > 1 else 1)
    helpers = []
    if threads > 1 and not parallel:
        pool = _executor(threads - 1)
        helpers = [pool.submit(kernel, team, counters, *arguments) for _ in range(1, threads)]
    kernel(team, counters, *arguments)
    for helper in helpers:
        helper.result()
    if counters[FAILED]:
        raise RuntimeError(f"The compiled kernel {kernel.__name__} failed.")


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
    return x.detach().resolve_neg().numpy().ravel()  # `reshape` would leave the strides of an expanded number


def in_memory(x: Tensor) -> tuple[Any, ...]:
    """The elements of a map in the order in which they lie there, and the strides of its axes."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return (flat(x.permute(0, 2, 3, 1)), *x.stride())
    x = x.contiguous()
    return (flat(x), *x.stride())


@cache
def _parallel() -> int:
    """The address of the function that runs another in all threads, in PyTorch's own OpenMP library; 0 without one."""
    if "OpenMP" not in torch.__config__.parallel_info():
        return 0
    try:
        found = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (AttributeError, OSError):
        return 0
    return ctypes.cast(found, ctypes.c_void_p).value or 0


def _executor(threads: int) -> ThreadPoolExecutor:
    """The threads of this process: those of the one it was forked from are not there."""
    global _pool
    if _pool is None or _pool[0] != os.getpid() or _pool[1] < threads:
        _pool = os.getpid(), threads, ThreadPoolExecutor(threads, "resfu")
    return _pool[2]
