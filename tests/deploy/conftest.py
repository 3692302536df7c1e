"""Every upsampler in a form that all tests can share."""

from collections.abc import Callable

import pytest
import torch

import resfu
from resfu.upsamplers.base import Upsampler

CHANNELS = 32
GUIDANCE_CHANNELS = 32  # A2U needs a multiple of 32


@pytest.fixture(scope="session")
def create() -> Callable[..., Upsampler]:
    """`create(name, scale_factor=2, **options)`: in eval mode, every parameter away from its start."""

    def create(name: str, scale_factor: int = 2, **options: object) -> Upsampler:
        torch.manual_seed(0)
        widths = {
            "channels": CHANNELS,
            "guidance_channels": 3 if resfu.UPSAMPLERS[name].image_guided else GUIDANCE_CHANNELS,
        }
        up = resfu.create_upsampler(name, **widths | {"scale_factor": scale_factor} | options)
        with torch.no_grad():
            for parameter in up.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return up.eval()

    return create


@pytest.fixture
def maps() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """`maps(up, batch, low, high, dtype)`: features and a guidance that fit an upsampler."""

    def maps(
        up: Upsampler,
        batch: int = 2,
        low: tuple[int, int] = (5, 6),
        high: tuple[int, int] = (10, 12),
        dtype: torch.dtype = torch.float32,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(1)
        width = up.guidance_channels or GUIDANCE_CHANNELS
        x = torch.randn(batch, up.channels or CHANNELS, *low, dtype=dtype)
        return x, torch.randn(batch, width, *high, dtype=dtype)

    return maps
