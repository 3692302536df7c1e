"""The upsamplers of a top-down path: one slot of about x2 for every step."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from resfu.hosts.slot import DIRECT, Slot, SlotFactory
from resfu.ops.pooling import adaptive_average
from resfu.upsamplers import UPSAMPLERS
from resfu.upsamplers.jbu import JBU, StackJBU


class TopDownSlots(nn.ModuleDict):
    """Slots for steps of about x2, named by their input level: `c4`, `c3`, `c2` for three steps.

    Upsamplers that the paper uses in steps are guided by the encoder's map with which the step's result is combined.
    ReSFU is always guided by C1, average-pooled to the size of the step (the paper says "always C1", but not how C1 is
    resized). Stack-JBU is one chain over the steps: a JBU module for each step, guided by the image average-pooled to
    the size of the step, and one correction at the end.

    Args:
        channels: widths of the steps' input features, from coarse to fine.
        guides: widths of the maps with which the steps' results are combined; the last one is C1's.
        create_slot: makes the slots.

    Raises:
        ValueError: as `Slot`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        guides: Sequence[int],
        create_slot: SlotFactory,
    ) -> None:
        in_steps = create_slot.options.get("iterative", create_slot.upsampler not in DIRECT)
        names = [f"c{level}" for level in range(len(channels) + 1, 1, -1)]
        super().__init__(
            {
                name: create_slot(width, guide if in_steps else guides[-1], 2)
                for name, width, guide in zip(names, channels, guides, strict=True)
            }
        )
        for name in names[:-1]:
            slot = cast("Slot", self[name])
            if isinstance(slot.upsampler, StackJBU):
                slot.upsampler = cast("JBU", slot.upsampler.stages["1"])
        self._guided_by_finest = not in_steps
        self._image_guided = UPSAMPLERS[create_slot.upsampler].image_guided

    def step(self, name: str, x: Tensor, guide: Tensor, finest: Tensor, images: Tensor) -> Tensor:
        """Upsample the coarser map to the size of the map with which it is combined.

        Args:
            name: name of the slot.
            x: [B, C, h, w].
            guide: [B, c, H, W], the map with which the result is combined.
            finest: [B, c', H', W'], the map of C1.
            images: [B, 3, H'', W''].

        Returns:
            [B, C, H, W].
        """
        slot = cast("Slot", self[name])
        size = (guide.shape[-2], guide.shape[-1])
        if slot.needs_guides and self._guided_by_finest:
            guide = adaptive_average(finest, size)
        return slot(x, [guide], size, adaptive_average(images, size) if self._image_guided else images)
