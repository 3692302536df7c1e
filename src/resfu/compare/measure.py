"""The cost of running a network, and its upsamplers' part of it."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from resfu.evaluation.cost import count_parameters, latency, multiply_accumulates, peak_memory
from resfu.evaluation.cost.host import inference_parameters
from resfu.upsamplers import Upsampler
from resfu.visualize.recorder import recorded


@torch.no_grad()
def measure_cost(
    host: nn.Module, images: Tensor, counted_part: Callable[[Any], AbstractContextManager[None]], repeats: int = 10
) -> dict[str, Any]:
    """Measure one forward pass in evaluation mode.

    Args:
        host: the network, on the device to measure.
        images: [B, 3, H, W] on the same device.
        counted_part: inside this context the network runs only the part whose multiply-accumulates are counted.
        repeats: timed passes; the median counts.

    Returns:
        "parameters" (without an auxiliary classifier), "multiply_accumulates", "host_ms", "peak_bytes" of the whole
        network; "upsampler_parameters", "upsampler_multiply_accumulates" and "upsampler_ms" of all its upsamplers, on
        their actual inputs.
    """
    host.eval()
    calls = _upsampler_calls(host, images)
    counted, counted_images, counted_calls = host, images, calls
    if images.device.type != "cpu":  # Triton's kernels are not counted, and a network costs the same everywhere
        counted, counted_images = copy.deepcopy(host).cpu(), images.cpu()
        counted_calls = _upsampler_calls(counted, counted_images)
    with counted_part(counted):
        work = multiply_accumulates(counted, counted_images)
    return {
        "parameters": inference_parameters(host),
        "multiply_accumulates": work,
        "host_ms": latency(host, images, repeats=repeats).median_ms,
        "peak_bytes": peak_memory(host, images),
        "upsampler_parameters": sum(count_parameters(module) for module, _ in calls),
        "upsampler_multiply_accumulates": sum(
            multiply_accumulates(module, *inputs) for module, inputs in counted_calls
        ),
        "upsampler_ms": sum(latency(module, *inputs, repeats=repeats).median_ms for module, inputs in calls),
    }


def _upsampler_calls(host: nn.Module, images: Tensor) -> list[tuple[Upsampler, tuple[Any, ...]]]:
    """Every upsampler, in the order of the calls, with its (features, guidance or None, size)."""
    with recorded(host) as calls:
        host(images)
    return [
        (call.module, (call.features, call.guidance, call.size)) for call in calls if isinstance(call.module, Upsampler)
    ]
