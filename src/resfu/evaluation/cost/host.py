"""The cost of a whole segmentation network with an upsampler: parameters, and multiply-accumulates in three ways."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resfu.evaluation.cost import published_frozen  # noqa: F401 (registers formulas)
from resfu.evaluation.cost.counting import count_parameters, multiply_accumulates
from resfu.evaluation.cost.published_algorithms import Call, Count, published_count
from resfu.hosts import create_host
from resfu.hosts.base import SegmentationHost
from resfu.upsamplers.base import Upsampler

_Recorded = tuple[Upsampler, Tensor, Tensor | None, tuple[int, int]]  # upsampler, features, guidance, output size


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of one image, from the image to the head's logits.

    Args:
        rest: everything except the upsamplers; it includes the layers that only compute a guidance.
        published: the upsamplers' published algorithms.
        run: the upsamplers as they run here, on the CPU.
    """

    rest: int
    published: Count
    run: int

    @property
    def paper(self) -> int:
        """The total as the published tables count it: without custom operations."""
        return self.rest + self.published.seen

    @property
    def with_custom_operations(self) -> int:
        """The total of the published algorithms, with custom operations."""
        return self.paper + self.published.unseen

    @property
    def as_run(self) -> int:
        """The total as it runs here."""
        return self.rest + self.run


def build_on_meta(
    host: str, upsampler: str, upsampler_options: Mapping[str, object] | None = None, num_classes: int = 150
) -> SegmentationHost:
    """Build a network on the meta device, without memory for its weights, in evaluation mode.

    Args:
        host: a key of `resfu.HOSTS`.
        upsampler: a key of `resfu.UPSAMPLERS`.
        upsampler_options: its further constructor arguments.
        num_classes: number of logits per pixel.

    Raises:
        ValueError: as in `resfu.create_host`.
    """
    with torch.device("meta"):
        options = dict(upsampler_options or {})
        return create_host(host, upsampler, num_classes, upsampler_options=options).eval()


def inference_parameters(host: nn.Module) -> int:
    """Number of parameters used in inference: like published counts, without the classifier of an auxiliary loss."""
    auxiliary = getattr(getattr(host, "head", None), "auxiliary", None)
    return count_parameters(host) - (0 if auxiliary is None else count_parameters(auxiliary))


def host_work(host: SegmentationHost, size: tuple[int, int]) -> Work:
    """Count one image, without resizing the logits to the image's size, as in the published tables.

    Args:
        host: on the meta device, which counts everything except the upsamplers without computing. The upsamplers are
            moved to the CPU and run there, on zeros of their actual sizes.
        size: (H, W) of the image.

    Raises:
        ValueError: for an upsampler without a published count, and as in the host.
    """
    upsamplers = _outermost_upsamplers(host)
    images = host._padded(torch.empty(1, 3, *size, device="meta"))
    calls: list[_Recorded] = []
    for up in upsamplers:
        # An instance attribute hides the class's method: the upsampler records the call instead of computing it.
        up.upsample = _recorder(up, calls)
    try:
        rest = multiply_accumulates(lambda: host.head(host.encoder(images), images))
    finally:
        for up in upsamplers:
            del up.upsample
    seen = unseen = run = 0
    for up, features, guidance, target in calls:
        published = published_count(up, _sizes(features, guidance, target))
        seen, unseen = seen + published.seen, unseen + published.unseen
        run += _count_on_cpu(up, features, guidance, target)
    return Work(rest, Count(seen, unseen), run)


def _outermost_upsamplers(module: nn.Module) -> list[Upsampler]:
    if isinstance(module, Upsampler):
        return [module]
    return [up for child in module.children() for up in _outermost_upsamplers(child)]


def _recorder(up: Upsampler, calls: list[_Recorded]) -> Callable[..., Tensor]:
    def upsample(features: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        calls.append((up, features, guidance, size))
        return features.new_empty((*features.shape[:2], *size))

    return upsample


def _sizes(features: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Call:
    batch, channels, h, w = features.shape
    return Call(batch, channels, (h, w), size, 0 if guidance is None else guidance.numel())


def _count_on_cpu(up: Upsampler, features: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> int:
    up.to_empty(device="cpu")
    for value in (*up.parameters(), *up.buffers()):
        value.detach().zero_()
    inputs = [None if each is None else torch.zeros_like(each, device="cpu") for each in (features, guidance)]
    return multiply_accumulates(up.upsample, *inputs, size)
