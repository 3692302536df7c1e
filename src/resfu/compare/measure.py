"""What a network costs to run, and what its upsampler's part in it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from resfu.compare.weights import Network
from resfu.evaluation.cost import count_parameters, latency, multiply_accumulates, peak_memory
from resfu.hosts.mask_rcnn import MaskRCNN
from resfu.upsamplers import Upsampler


@torch.no_grad()
def measure_cost(host: Network, images: Tensor, repeats: int = 10) -> dict[str, Any]:
    """Measure one forward pass in evaluation mode.

    The multiply-accumulates of a network that finds objects leave out the heads of single proposals: their number
    depends on what the images show and on what was learned, not on the network alone.

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
    with _without_roi_heads(host):
        work = multiply_accumulates(host, images)
    return {
        "parameters": count_parameters(host),
        "multiply_accumulates": work,
        "host_ms": latency(host, images, repeats=repeats).median_ms,
        "peak_bytes": peak_memory(host, images),
        "upsampler_parameters": sum(count_parameters(module) for module, _ in calls),
        "upsampler_multiply_accumulates": sum(multiply_accumulates(module, *inputs) for module, inputs in calls),
        "upsampler_ms": sum(latency(module, *inputs, repeats=repeats).median_ms for module, inputs in calls),
    }


def input_size(host: Network, image: Tensor) -> tuple[int, int]:
    """(H, W) at which a network sees an image [3, H, W]: those that find objects resize it themselves."""
    if isinstance(host, MaskRCNN):
        return host.transform([image])[0].image_sizes[0]
    return image.shape[-2], image.shape[-1]


class _NothingFound(nn.Module):
    """In the place of the heads that look at proposals one by one."""

    def forward(self, features: Any, proposals: list[Tensor], *others: Any) -> tuple[list[dict[str, Tensor]], Any]:
        found = []
        for boxes in proposals:
            labels = boxes.new_zeros(0, dtype=torch.int64)
            masks = boxes.new_zeros((0, 1, 28, 28))
            found.append({"boxes": boxes[:0], "labels": labels, "scores": boxes.new_zeros(0), "masks": masks})
        return found, {}


@contextmanager
def _without_roi_heads(host: Network) -> Iterator[None]:
    if not isinstance(host, MaskRCNN):
        yield
        return
    heads = host.roi_heads
    host.roi_heads = _NothingFound()
    try:
        yield
    finally:
        host.roi_heads = heads


def _upsampler_calls(host: Network, images: Tensor) -> list[tuple[Upsampler, tuple[Any, ...]]]:
    """Every upsampler in the order of the calls, with its (features, guidance or None, size)."""
    calls: list[tuple[Upsampler, tuple[Any, ...]]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Tensor) -> None:
        assert isinstance(module, Upsampler)
        features, guidance = (*inputs, options.get("guidance"))[:2]
        calls.append((module, (features, guidance, tuple(output.shape[-2:]))))

    found = {name: module for name, module in host.named_modules() if isinstance(module, Upsampler)}
    inner = {name for name in found for outer in found if name.startswith(f"{outer}.")}  # Stack-JBU's own steps
    modules = [module for name, module in found.items() if name not in inner]
    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in modules]
    try:
        host(images)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
