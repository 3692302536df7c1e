"""With what a network calls its upsamplers."""

from typing import Any

import torch
from torch import Tensor

from resfu.hosts.base import SegmentationHost
from resfu.upsamplers import Upsampler


def upsampler_calls(host: SegmentationHost, images: Tensor) -> list[tuple[Upsampler, tuple[Any, ...]]]:
    """Listen to one forward pass.

    Args:
        host: the network.
        images: [B, 3, H, W].

    Returns:
        Every upsampler of the network, in the order of the calls, with its (features, guidance or None, size).
    """
    calls: list[tuple[Upsampler, tuple[Any, ...]]] = []

    def note(module: torch.nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Tensor) -> None:
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
