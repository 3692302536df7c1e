"""What a network costs to run, and what its upsampler's part in it is."""

from typing import Any

import torch
from torch import Tensor

from resfu.compare.calls import upsampler_calls
from resfu.evaluation.cost import count_parameters, latency, multiply_accumulates, peak_memory
from resfu.hosts.base import SegmentationHost


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
    calls = upsampler_calls(host, images)
    return {
        "parameters": count_parameters(host),
        "multiply_accumulates": multiply_accumulates(host, images),
        "host_ms": latency(host, images, repeats=repeats).median_ms,
        "peak_bytes": peak_memory(host, images),
        "upsampler_parameters": sum(count_parameters(module) for module, _ in calls),
        "upsampler_multiply_accumulates": sum(multiply_accumulates(module, *inputs) for module, inputs in calls),
        "upsampler_ms": sum(latency(module, *inputs, repeats=repeats).median_ms for module, inputs in calls),
    }
