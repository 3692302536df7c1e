"""The calls of a network's slots and of the ReSFU modules in them, and which part of their maps shows the photo."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from resfu.hosts.base import SegmentationHost
from resfu.hosts.slot import Slot
from resfu.upsamplers import ReSFU
from resfu.visualize.figures.frame import Frame
from resfu.visualize.recorder import RecordedCall, recorded

if TYPE_CHECKING:
    from resfu.hosts.mask_rcnn import MaskRCNN


@dataclass(frozen=True)
class _Call:
    """One call in the forward pass of one image.

    Attributes:
        name: the slot's name in the network; for a step in a slot, followed by ".1", ".2", ...
        features: [1, C, h, w], the input.
        size: (H, W) of the output.
        frame: which part of the maps shows the image.
    """

    name: str
    features: Tensor
    size: tuple[int, int]
    frame: Frame

    @property
    def ratio(self) -> tuple[float, float]:
        """(vertical, horizontal) size of a low-resolution pixel, in pixels of the output."""
        return self.size[0] / self.features.shape[-2], self.size[1] / self.features.shape[-1]

    @property
    def words(self) -> str:
        """Slot, ratio and sizes, for a title."""
        (h, w), (H, W) = self.features.shape[-2:], self.size
        return f"{self.name}, ×{self.ratio[0]:.3g} ({h} × {w} to {H} × {W})"

    def bilinear(self) -> Tensor:
        """The features, interpolated bilinearly to the output's size, [C, H, W]."""
        return F.interpolate(self.features, size=self.size, mode="bilinear", align_corners=False)[0]


@dataclass(frozen=True)
class ReSFUCall(_Call):
    """A call of a ReSFU module.

    Attributes:
        module: the network's own module, not a copy: do not change it.
        guidance: [1, c, H, W].
        guides: the guidance maps that the slot offers for a chain of x2 steps, from coarse to fine.
    """

    module: ReSFU
    guidance: Tensor
    guides: Sequence[Tensor] = ()

    def altered(self, **settings: object) -> Self:
        """The same call with a copy of the module that has other settings, such as neighbours="coarse"."""
        module = copy.deepcopy(self.module)
        for name, value in settings.items():
            setattr(module, name, value)
        return replace(self, module=module)

    @torch.no_grad()
    def explain(self) -> dict[str, Tensor]:
        """`ReSFU.explain` of this call, without the batch axis."""
        return {name: x[0] for name, x in self.module.explain(self.features, self.guidance, self.size).items()}


@dataclass(frozen=True)
class SlotCall(_Call):
    """A call of a slot.

    Attributes:
        output: [1, C, H, W].
        resfu: the calls of ReSFU modules in the slot, in order; empty if the slot holds another upsampler.
    """

    output: Tensor
    resfu: tuple[ReSFUCall, ...]


@torch.no_grad()
def slot_calls(
    host: SegmentationHost | MaskRCNN, image: Tensor, photo_size: tuple[int, int] | None = None
) -> dict[str, SlotCall]:
    """Run the network once and record the calls of its slots.

    Args:
        host: the network, in evaluation mode.
        image: [3, H, W], normalised, on the network's device.
        photo_size: (H, W) of the photo that the image was resized from; default: the image's.

    Returns:
        The call of every slot, with the names and the order of the host's `upsampled_features`.

    Raises:
        ValueError: for a network that shows no features.
    """
    with recorded(host) as heard:
        pairs = host.upsampled_features(image[None])
    if not pairs:
        raise ValueError(f"{type(host).__name__} has no upsampler slot: there is nothing to show.")
    slots = {id(call.output): call for call in heard if isinstance(call.module, Slot)}
    size = photo_size or _size(image)
    # Without slots of ours, all that is known is what a pixel of the finest map covers.
    finest = max((output for _, output in pairs.values()), key=lambda output: output.shape[-2:].numel())
    calls = {}
    for name, (features, output) in pairs.items():
        slot = slots.get(id(output))
        if slot is None:
            covered = (finest.shape[-2] * host.stride, finest.shape[-1] * host.stride)
            calls[name] = SlotCall(name, features, _size(output), _frame(_size(image), covered, size), output, ())
            continue
        frame = _frame(_size(image), _size(slot.inputs["images"]), size)
        inner = [call for call in heard if call.name.startswith(f"{slot.name}.") and isinstance(call.module, ReSFU)]
        one = len(inner) == 1  # else a chain, whose steps have their own guides already
        resfu = tuple(
            _resfu_call(name if one else f"{name}.{n}", call, frame, slot.inputs["guides"] if one else ())
            for n, call in enumerate(inner, 1)
        )
        calls[name] = SlotCall(name, slot.features, slot.size, frame, output, resfu)
    return calls


def resfu_calls(calls: Iterable[SlotCall]) -> dict[str, ReSFUCall]:
    """The calls of ReSFU modules by name.

    Raises:
        ValueError: when no slot holds one.
    """
    found = {call.name: call for slot in calls for call in slot.resfu}
    if not found:
        raise ValueError("no ReSFU in the network: its slots hold another upsampler. Give a network with ReSFU.")
    return found


_AnyCall = TypeVar("_AnyCall", bound=_Call)


def choose_call(calls: Mapping[str, _AnyCall], name: str | None = None) -> _AnyCall:
    """The call with this name; by default the one with the highest ratio, or among equals the finest output.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    if name is None:
        # At odd sizes, ratios of one kind differ a little: x2 from 4 to 7 rows is less than x2 from 7 to 14.
        return max(calls.values(), key=lambda call: (round(math.log2(math.prod(call.ratio))), math.prod(call.size)))
    if name not in calls:
        raise ValueError(f"unknown slot {name!r}; this network has {', '.join(calls)}.")
    return calls[name]


def _resfu_call(name: str, call: RecordedCall, frame: Frame, guides: Sequence[Tensor]) -> ReSFUCall:
    assert isinstance(call.module, ReSFU)
    return ReSFUCall(name, call.features, call.size, frame, call.module, call.guidance, tuple(guides))


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _frame(image: tuple[int, int], covered: tuple[int, int], photo: tuple[int, int]) -> Frame:
    """The photo's part of the maps; the maps cover more than the photo if the network pads its images."""
    height, width = (float(max(n, whole * n / own)) for whole, own, n in zip(covered, image, photo, strict=True))
    return Frame(photo, (height, width))
