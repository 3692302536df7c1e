"""With what a network calls its slots and the ReSFU modules in them, whatever network it is."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.hosts.base import SegmentationHost
from resfu.hosts.slot import Slot
from resfu.upsamplers import ReSFU
from resfu.visualize.figures.frame import Frame

if TYPE_CHECKING:
    from resfu.hosts.mask_rcnn import MaskRCNN


@dataclass(frozen=True)
class _Call:
    """One call in the forward pass of one image.

    Attributes:
        name: of the slot, as the network has it; of a step in a slot, with ".1", ".2", ... behind.
        features: [1, C, h, w], what came in.
        size: (H, W) of what came out.
        frame: what part of the maps is the image.
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
        """The features by bilinear interpolation at the output's size, [C, H, W]."""
        return F.interpolate(self.features, size=self.size, mode="bilinear", align_corners=False)[0]


@dataclass(frozen=True)
class ReSFUCall(_Call):
    """A call of a ReSFU module.

    Attributes:
        module: the network's own; look, do not change.
        guidance: [1, c, H, W].
        guides: what the slot offers for a chain of x2 steps, from coarse to fine.
    """

    module: ReSFU
    guidance: Tensor
    guides: Sequence[Tensor] = ()

    def altered(self, **settings: object) -> Self:
        """The same call of a copy with the same weights and other settings, such as neighbours="coarse"."""
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
        resfu: the calls of ReSFU modules in it, in order; empty when another upsampler sits there.
    """

    output: Tensor
    resfu: tuple[ReSFUCall, ...]


@torch.no_grad()
def slot_calls(
    host: SegmentationHost | MaskRCNN, image: Tensor, photo_size: tuple[int, int] | None = None
) -> dict[str, SlotCall]:
    """Listen to one pass through the slots.

    Args:
        host: the network, in evaluation mode.
        image: [3, H, W], normalised, on the network's device.
        photo_size: (H, W) of the photo that the image was resized from; default: the image's.

    Returns:
        The call of every slot by its name in `upsampled_features`, in the order of that.

    Raises:
        ValueError: for a network without a slot.
    """
    heard: dict[str, dict[str, Any]] = {}
    found = {path: module for path, module in host.named_modules() if isinstance(module, Slot | ReSFU)}
    hooks = [m.register_forward_hook(partial(_note, heard, path), with_kwargs=True) for path, m in found.items()]
    try:
        pairs = host.upsampled_features(image[None])
    finally:
        for hook in hooks:
            hook.remove()
    if not pairs:
        raise ValueError(f"{type(host).__name__} has no upsampler slot: there is nothing to show.")
    by_output = {id(call["output"]): path for path, call in heard.items() if isinstance(found[path], Slot)}
    calls = {}
    for name, (_, output) in pairs.items():
        path = by_output[id(output)]
        call = heard[path]
        frame = _frame(image, call["images"], photo_size or (image.shape[-2], image.shape[-1]))
        inner = [p for p in heard if p.startswith(f"{path}.")]
        one = len(inner) == 1  # else a chain, whose steps have their own guides already
        resfu = tuple(
            _resfu_call(name if one else f"{name}.{n}", found[p], heard[p], frame, call["guides"] if one else ())
            for n, p in enumerate(inner, 1)
        )
        calls[name] = SlotCall(name, call["features"], _size(call["output"]), frame, call["output"], resfu)
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
    """The call of a name; without one, the call with the highest ratio.

    Raises:
        ValueError: for an unknown name; it lists what there is.
    """
    if name is None:
        return max(calls.values(), key=lambda call: call.ratio)
    if name not in calls:
        raise ValueError(f"unknown slot {name!r}; this network has {', '.join(calls)}.")
    return calls[name]


def _note(
    heard: dict[str, dict[str, Any]],
    path: str,
    module: nn.Module,
    inputs: tuple[Any, ...],
    options: dict[str, Any],
    output: Tensor,
) -> None:
    named = inspect.signature(module.forward).bind(*inputs, **options).arguments
    heard.setdefault(path, {**named, "output": output})


def _resfu_call(
    name: str, module: nn.Module, call: dict[str, Any], frame: Frame, guides: Sequence[Tensor]
) -> ReSFUCall:
    assert isinstance(module, ReSFU)
    return ReSFUCall(name, call["features"], _size(call["output"]), frame, module, call["guidance"], tuple(guides))


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _frame(image: Tensor, continued: Tensor, photo_size: tuple[int, int]) -> Frame:
    """The network's own images may be larger than the image, where it continues them."""
    height, width = (
        max(1.0, whole / own) * photo
        for whole, own, photo in zip(_size(continued), _size(image), photo_size, strict=True)
    )
    return Frame(photo_size, (height, width))
