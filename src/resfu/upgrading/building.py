"""Check whether an upsampler fits a place in a network, and build the module that replaces the call there."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from resfu.upgrading.calls import Call
from resfu.upsamplers import UPSAMPLERS, Iterative, create_upsampler
from resfu.upsamplers.odd_sizes import whole_size
from resfu.upsamplers.starts import PUBLISHED, interpolated

SAME = "same"
_A2U_WIDTH = 32  # the width of A2U's guidance must be a multiple of this


class Replacement(nn.Module):
    """The upsampler at one place, with the projections that its widths need.

    Args:
        upsampler: takes features, guidance and size.
        projection: 1 x 1 convolution before the upsampler, if the old layer changed the number of channels.
        guidance_projection: 1 x 1 convolution of the guidance, if the method needs another number of channels.
        whole_guidance: whether the method takes a guidance that is larger than the output without resizing.
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
        """Features [B, C, h, w] -> [B, C', H, W]."""
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


class ByWay(Replacement):
    """An upsampler to an intermediate size, followed by the old interpolation to the final size.

    Two interpolations in a row do not equal a single one to the same size. So if the upsampler has a start, only its
    change from the start is interpolated to the final size and added to the old result.

    Args:
        *parts: the arguments of `Replacement`.
        old: the old interpolation, as `start` names it.
        from_old: whether the upsampler starts from the old interpolation.
    """

    def __init__(self, *parts: Any, old: str, from_old: bool) -> None:
        super().__init__(*parts)
        self.old, self.from_old = old, from_old

    def forward(
        self, features: Tensor, guidance: Tensor | None, size: tuple[int, int], middle: tuple[int, int] | None = None
    ) -> Tensor:
        """Features [B, C, h, w] -> [B, C, H, W]; the upsampler runs up to the size `middle`."""
        assert middle is not None
        upsampled = super().forward(features, guidance, middle)
        if not self.from_old:
            return interpolated(upsampled, size, self.old)
        change = upsampled - interpolated(features, middle, self.old)
        return interpolated(features, size, self.old) + interpolated(change, size, self.old)


def refusal(upsampler: str, call: Call) -> str:
    """The reason why an upsampler cannot be used at a place; "" if it can."""
    if upsampler == SAME:
        return ""
    if upsampler not in UPSAMPLERS:
        hint = " Arguments of its constructor go into options={...}." if "+" in upsampler else ""
        return f"unknown upsampler {upsampler!r}; choose one of {SAME}, {', '.join(UPSAMPLERS)}.{hint}"
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
        if upsampler == "anyup" and min(call.low) < 2:
            return "anyup takes features of at least two rows and columns."
    except ValueError as error:
        return str(error)
    return ""


def build(
    upsampler: str,
    call: Call,
    guidance_channels: int | None,
    options: Mapping[str, Any],
    middle: tuple[int, ...] | None = None,
) -> Replacement:
    """Build the module that replaces a call.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        call: the description of the call.
        guidance_channels: width of the guidance; None if the method is not guided.
        options: further arguments of the upsampler's constructor.
        middle: the size to which the upsampler goes, if the old interpolation continues from there.

    Raises:
        ValueError: for options that the upsampler does not take.
    """
    step = call if middle is None else replace(call, size=middle)
    method, ratio, width = UPSAMPLERS[upsampler], _whole_ratio(step), call.out_channels
    options = dict(options)
    guidance_projection = None
    if upsampler == "a2u" and guidance_channels is not None and guidance_channels % _A2U_WIDTH:
        wanted = -(-guidance_channels // _A2U_WIDTH) * _A2U_WIDTH
        guidance_projection = nn.Conv2d(guidance_channels, wanted, 1)
        guidance_channels = wanted
    if upsampler == "dysample":
        # The published 4 groups, or the largest smaller number that divides the width.
        options.setdefault("groups", next(groups for groups in (4, 3, 2, 1) if width % groups == 0))
    if upsampler == "naf":
        options.setdefault("heads", next(heads for heads in (4, 2, 1) if width % heads == 0))
    given = {"channels": width, "guidance_channels": guidance_channels, **options}
    if method.ratios == "2":
        doublings = ratio.bit_length() - 1
        steps = [create_upsampler(upsampler, **given) for _ in range(doublings)]
        module: nn.Module = steps[0] if doublings == 1 else Iterative(steps)
    else:
        module = create_upsampler(upsampler, scale_factor=ratio, **given)
    projection = None if call.kind == "interpolate" else nn.Conv2d(call.channels, width, 1)
    parts = (module, projection, guidance_projection, method.image_guided)
    return (
        Replacement(*parts)
        if middle is None
        else ByWay(*parts, old=call.start, from_old=options.get("start", PUBLISHED) != PUBLISHED)
    )


def _whole_ratio(call: Call) -> int:
    """The ratio, rounded up, because methods of whole ratios crop their output."""
    return max(-(-H // h) for H, h in zip(call.size, call.low, strict=True))
