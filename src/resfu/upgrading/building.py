"""Check whether an upsampler fits a place, and build the module that replaces it."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from resfu.upgrading.calls import Call
from resfu.upsamplers import UPSAMPLERS, Iterative, create_upsampler
from resfu.upsamplers.odd_sizes import whole_size

SAME = "same"
_A2U_WIDTH = 32  # A2U's normalisation needs a guidance width that is a multiple of this


class Replacement(nn.Module):
    """The upsampler of one place, with projections that fit its widths.

    Args:
        upsampler: called with features, guidance and size.
        projection: 1 x 1 convolution before it, if the old layer changed the width.
        guidance_projection: 1 x 1 convolution of the guidance, if the method needs another width.
        whole_guidance: whether the method accepts a guidance larger than the output.
    """

    def __init__(
        self,
        upsampler: nn.Module,
        projection: nn.Module | None = None,
        guidance_projection: nn.Module | None = None,
        whole_guidance: bool = False,
    ) -> None:
        super().__init__()
        self.upsampler = upsampler
        self.projection = projection
        self.guidance_projection = guidance_projection
        self.whole_guidance = whole_guidance

    def forward(self, features: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        """[B, C, h, w] -> [B, C', H, W]."""
        # A kernel that sums to 1 and a 1 x 1 convolution commute; this order is cheaper.
        if self.projection is not None:
            features = self.projection(features)
        if guidance is not None and not self.whole_guidance:
            H, W = guidance.shape[-2:]
            if size[0] <= H and size[1] <= W and (size[0] < H or size[1] < W):
                guidance = F.adaptive_avg_pool2d(guidance, size)
        if guidance is not None and self.guidance_projection is not None:
            guidance = self.guidance_projection(guidance)
        return self.upsampler(features, guidance, size=size)


def refusal(upsampler: str, call: Call) -> str:
    """Why an upsampler does not fit a place; "" if it does."""
    if upsampler == SAME:
        return ""
    if upsampler not in UPSAMPLERS:
        return f"unknown upsampler {upsampler!r}; choose one of {SAME}, {', '.join(UPSAMPLERS)}."
    method, ratio = UPSAMPLERS[upsampler], _whole_ratio(call)
    try:
        if method.ratios == "2":
            if ratio < 2 or ratio & (ratio - 1):
                return f"{upsampler} doubles the size, once or several times, and this is the ratio {ratio}."
            whole_size(upsampler, "fixed", ratio, call.low, call.size)  # pyright: ignore[reportArgumentType]
        elif method.ratios != "any":
            whole_size(upsampler, method.ratios, ratio, call.low, call.size)  # pyright: ignore[reportArgumentType]
        if upsampler == "stack-jbu" and (ratio < 2 or ratio & (ratio - 1)):
            return f"stack-jbu takes powers of two, and this is the ratio {ratio}."
        if upsampler == "stack-jbu" and min(call.low) < 2:
            return "stack-jbu mirrors three pixels at the border: features of one pixel are too few."
    except ValueError as error:
        return str(error)
    return ""


def build(upsampler: str, call: Call, guidance_channels: int | None, options: Mapping[str, Any]) -> Replacement:
    """The module that replaces a call.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        call: what was asked for.
        guidance_channels: width of the guidance; None where the method is not guided.
        options: further arguments of the upsampler's constructor.

    Raises:
        ValueError: for options that it does not take.
    """
    method, ratio, width = UPSAMPLERS[upsampler], _whole_ratio(call), call.out_channels
    options = dict(options)
    guidance_projection = None
    if upsampler == "a2u" and guidance_channels is not None and guidance_channels % _A2U_WIDTH:
        wanted = -(-guidance_channels // _A2U_WIDTH) * _A2U_WIDTH
        guidance_projection = nn.Conv2d(guidance_channels, wanted, 1)
        guidance_channels = wanted
    if upsampler == "dysample":
        # The published 4 groups, or as many as divide the width.
        options.setdefault("groups", next(groups for groups in (4, 3, 2, 1) if width % groups == 0))
    given = {"channels": width, "guidance_channels": guidance_channels, **options}
    if method.ratios == "2":
        doublings = ratio.bit_length() - 1
        steps = [create_upsampler(upsampler, **given) for _ in range(doublings)]
        module: nn.Module = steps[0] if doublings == 1 else Iterative(steps)
    else:
        module = create_upsampler(upsampler, scale_factor=ratio, **given)
    projection = None if call.kind == "interpolate" else nn.Conv2d(call.channels, width, 1)
    return Replacement(module, projection, guidance_projection, method.image_guided)


def _whole_ratio(call: Call) -> int:
    """The ratio, rounded up: methods with integer ratios crop."""
    return max(-(-H // h) for H, h in zip(call.size, call.low, strict=True))
