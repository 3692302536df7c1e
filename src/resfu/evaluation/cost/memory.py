"""The peak memory of a call, beyond what was allocated before it."""

import gc
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves


def peak_memory(function: Callable[..., Any], *inputs: Any, grad: bool = False) -> int:
    """Peak memory of a call's tensors in bytes, beyond those that existed before it; the result is included.

    An unmeasured first call fills caches and library workspaces. The device is that of the first tensor among the
    inputs, then of the module's parameters, else the CPU.

    On the CPU, every allocation and release by PyTorch's allocator is recorded and summed in order. This is exact to
    the requested byte, with temporaries inside operations and scalars (4 or 8 bytes); views and in-place operations
    need none. Not seen: memory that oneDNN, MKL or NumPy allocate themselves, and allocations of an operation's worker
    threads. Releases of tensors that existed before the call are not subtracted.

    On CUDA, the allocator's statistics of requested bytes are used; they include other threads.

    Args:
        function: a module or function; a module runs in its current mode (call `.eval()` first).
        *inputs: its arguments.
        grad: record gradients, as in training; tensors kept for the backward pass then count.
    """
    device = _device(function, inputs)
    with torch.set_grad_enabled(grad):
        function(*inputs)
        gc.collect()
        if device.type == "cuda":
            return _cuda_peak(function, inputs, device)
        return _cpu_peak(function, inputs)


def _device(function: Callable[..., Any], inputs: Iterable[Any]) -> torch.device:
    tensors = [value for value in tree_leaves(inputs) if isinstance(value, Tensor)]
    if isinstance(function, nn.Module):
        tensors += function.parameters()
    return tensors[0].device if tensors else torch.device("cpu")


def _cuda_peak(function: Callable[..., Any], inputs: Iterable[Any], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_stats(device)["requested_bytes.all.current"]
    result = function(*inputs)  # held until the statistics are read
    torch.cuda.synchronize(device)
    peak = torch.cuda.memory_stats(device)["requested_bytes.all.peak"]
    del result
    return peak - before


def _cpu_peak(function: Callable[..., Any], inputs: Iterable[Any]) -> int:
    with _quiet_profiler(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = function(*inputs)  # held until the recording ends
    del result
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        record.export_chrome_trace(str(trace))
        events = json.loads(trace.read_bytes())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    changes.sort(key=lambda event: event["ts"])
    live: dict[int, int] = {}
    held = peak = 0
    for event in changes:
        address, size = event["args"]["Addr"], event["args"]["Bytes"]
        if event["args"]["Device Type"] != 0:
            continue
        if size > 0:
            live[address] = size
            held += size
            peak = max(peak, held)
        else:
            held -= live.pop(address, 0)  # 0: it existed before the call
    return peak


@contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Silence the profiler's own log lines, unless the user set their level."""
    name = "KINETO_LOG_LEVEL"
    asked_for = name in os.environ
    os.environ.setdefault(name, "99")
    try:
        yield
    finally:
        if not asked_for:
            del os.environ[name]
