"""What a network costs to run, and what its upsampler's part in it is."""

from typing import Any

import torch
from torch import Tensor

from resfu.evaluation.cost import count_parameters, latency, multiply_accumulates, peak_memory
from resfu.hosts.base import SegmentationHost
from resfu.upsamplers import Upsampler


@torch.no_grad()
def measure_cost(host: SegmentationHost, images: Tensor, repeats: int = 10) -> dict[str, Any]:
    """Measure one forward pass in evaluation mode.

    Args:
        host: the network, on the device to measure.
        images: [B, 3, H, W] on the same device.
        repeats: timed passes; the median counts.

    Returns:
        "parameters", "multiply_accumulates", "host_ms", "peak_bytes" of the whole network; "upsampler_parameters",
        "upsampler_multiply_accumulates" and "upsampler_ms" of its upsamplers together, on the inputs that they get.
    """
    host.eval()
    calls = _upsampler_calls(host, images)
    return {
        "parameters": count_parameters(host),
        "multiply_accumulates": multiply_accumulates(host, images),
        "host_ms": latency(host, images, repeats=repeats).median_ms,
        "peak_bytes": peak_memory(host, images),
        "upsampler_parameters": sum(count_parameters(module) for module, _ in calls),
        "upsampler_multiply_accumulates": sum(multiply_accumulates(module, *inputs) for module, inputs in calls),
        "upsampler_ms": sum(latency(module, *inputs, repeats=repeats).median_ms for module, inputs in calls),
    }


def _upsampler_calls(host: SegmentationHost, images: Tensor) -> list[tuple[Upsampler, tuple[Any, ...]]]:
    """The upsamplers of a network, and with what (features, guidance, size) each is called."""
    calls: list[tuple[Upsampler, tuple[Any, ...]]] = []

    def note(module: torch.nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Tensor) -> None:
        assert isinstance(module, Upsampler)
        features, guidance = (*inputs, options.get("guidance"))[:2]
        calls.append((module, (features, guidance, tuple(output.shape[-2:]))))

    modules = [module for module in host.modules() if isinstance(module, Upsampler)]
    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in modules]
    try:
        host(images)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
