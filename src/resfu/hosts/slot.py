"""Slots, the places of the upsamplers in a network, and the factory that makes them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from resfu.hosts.blocks import ImageGuidance
from resfu.upsamplers import UPSAMPLERS, Iterative, create_upsampler
from resfu.upsamplers.options import check_flags, check_given

# Upsamplers that the paper uses in one step in every network. Stack-JBU contains its steps itself.
DIRECT = frozenset({"nearest", "bilinear", "bicubic", "stack-jbu", "resfu", "resfu-image", "naf", "anyup"})
# Upsamplers that it uses in one step directly before the classifier (PSPNet, Segmenter).
DIRECT_BEFORE_CLASSIFIER = DIRECT | {"deconv", "pixelshuffle"}


class Slot(nn.Module):
    """One upsampler between two resolutions: directly to the target, or in steps of x2.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        channels: width of the features.
        guidance_channels: width of the guides.
        scale_factor: ratio of the target to the features, a power of two.
        options: further constructor arguments of the upsampler. The option "iterative" (bool) says whether to upsample
            in steps of x2, each with weights of its own. Default, as in the paper: in steps, except for the upsamplers
            in `direct`.
        direct: names of the upsamplers that go directly to the target.

    Raises:
        ValueError: for an unknown upsampler or option, or one that the network itself sets.
    """

    def __init__(
        self,
        upsampler: str,
        channels: int,
        guidance_channels: int,
        scale_factor: int,
        options: Mapping[str, object] | None = None,
        direct: Collection[str] = DIRECT,
    ) -> None:
        super().__init__()
        options = dict(options or {})
        iterative = options.pop("iterative", upsampler not in direct)
        check_flags(iterative=iterative)
        check_given("upsampler_options", options)
        self.method = UPSAMPLERS.get(upsampler)
        if self.method is not None and self.method.image_guided:
            guidance_channels = 3

        def create(ratio: int):
            return create_upsampler(
                upsampler, channels=channels, guidance_channels=guidance_channels, scale_factor=ratio, **options
            )

        steps = scale_factor.bit_length() - 1
        self.upsampler = Iterative(create(2) for _ in range(steps)) if iterative else create(scale_factor)

    @property
    def needs_guides(self) -> bool:
        """Whether the upsampler is guided by feature maps."""
        return self.method is not None and self.method.guided and not self.method.image_guided

    @property
    def least(self) -> int:
        """Least number of rows and columns of the features: JBU mirrors three pixels of a map twice as large."""
        return 2 if self.method is not None and self.method.image_guided else 1

    @property
    def exact(self) -> bool:
        """Whether the upsampler does not take any real ratio, so that networks pad images to a multiple."""
        return self.method is not None and self.method.ratios != "any"

    def forward(self, features: Tensor, guides: Sequence[Tensor], size: tuple[int, int], images: Tensor) -> Tensor:
        """Upsample features to the target size.

        Args:
            features: [B, C, h, w].
            guides: maps [B, c, H, W] between the features' resolution and the target's, from coarse to fine: one for
                every doubling, or only the one at the target's size. Upsamplers that are not guided by features need
                none.
            size: (H, W) of the target.
            images: [B, 3, H', W'], for upsamplers that are guided by the image.

        Returns:
            [B, C, H, W].
        """
        if self.method is None or not self.method.guided:
            return self.upsampler(features, None, size=size)
        if self.method.image_guided:
            return self.upsampler(features, images, size=size)
        if isinstance(self.upsampler, Iterative) and len(guides) == len(self.upsampler.steps):
            return self.upsampler(features, guides, size=size)
        return self.upsampler(features, guides[-1], size=size)


class SlotFactory:
    """Makes the slots of one network, all with the same upsampler and the same options.

    Initial weights of slots come from a separate random stream, and the state of PyTorch's generator is restored. So
    with one seed everything else in the network starts the same, whatever the upsampler and whichever part is made
    first.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        options: further constructor arguments of the upsampler; "iterative" (bool), see `Slot`.

    >>> create_slot = SlotFactory("sapa")
    >>> slot = create_slot(channels=64, guidance_channels=32, scale_factor=4)
    >>> slot(torch.zeros(1, 64, 8, 8), [torch.zeros(1, 32, 32, 32)], (32, 32), torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 64, 32, 32])
    """

    def __init__(self, upsampler: str, options: Mapping[str, object] | None = None) -> None:
        self.upsampler = upsampler
        self.options = dict(options or {})
        self._stream: Tensor | None = None

    def __call__(
        self, channels: int, guidance_channels: int, scale_factor: int, direct: Collection[str] = DIRECT
    ) -> Slot:
        """Make the next slot; arguments and errors are those of `Slot`."""
        with self._own_stream():
            return Slot(self.upsampler, channels, guidance_channels, scale_factor, self.options, direct)

    def image_guidance(self, stride: int, channels: int) -> ImageGuidance | None:
        """A module that computes guides from the image, for upsamplers that are guided by features; None for others."""
        method = UPSAMPLERS[self.upsampler]
        if not method.guided or method.image_guided:
            return None
        with self._own_stream():
            return ImageGuidance(stride, channels)

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
        with torch.random.fork_rng(devices):
            # The stream of the first slot starts from the network's seed, and continues with each further slot.
            if self._stream is not None:
                torch.set_rng_state(self._stream)
            yield
            self._stream = torch.get_rng_state()
