"""Published multiply-accumulates of image-guided upsamplers, as in `published_algorithms`."""

from torch import nn

from resfu.evaluation.cost.published_algorithms import Call, Count, published_count
from resfu.upsamplers.anyup import AnyUp
from resfu.upsamplers.naf import NAF
from resfu.upsamplers.resfu_image import ReSFUImage

_NORM = 5  # per element, with affine


@published_count.register
def _(up: NAF, call: Call) -> Count:
    """The encoding of the image; unseen: scores and sums over K x K neighbours, a kernel of its own."""
    image = min(call.guidance // 3, 16 * call.pixels)
    seen = _layers(up.pixel_encoder, up.context_encoder) * image
    D = up.dim
    return Count(seen, up.kernel_size**2 * (D * call.pixels + call.elements))


@published_count.register
def _(up: AnyUp, call: Call) -> Count:
    """As published, every pixel is scored against every low-resolution one; the mask is applied afterwards."""
    image, D = call.guidance // 3, up.query_and_key.in_features
    unify = up.feature_encoder[0].basis.numel() * call.channels  # pyright: ignore[reportCallIssue]
    seen = _layers(up.image_encoder, up.key_encoder, up.query_encoder) * image
    seen += (_layers(up.query_convolution) + D * D) * call.pixels
    seen += (_layers(up.feature_encoder, up.aggregation) + D * D + int(unify)) * call.cells
    every = call.low[0] * call.low[1]
    return Count(seen + every * (D * call.pixels + call.elements))


@published_count.register
def _(up: ReSFUImage, call: Call) -> Count:
    guide = Call(call.batch, call.channels, call.low, call.size, up.conv2.out_channels * call.pixels)
    seen, unseen = published_count(up.resfu, guide)
    return Count(seen + _layers(up.conv1, up.norm, up.conv2) * call.pixels, unseen)


def _layers(*modules: nn.Module) -> int:
    """Convolutions and normalisations, per pixel."""
    total = 0
    for module in (inner for outer in modules for inner in outer.modules()):
        if isinstance(module, nn.Conv2d):
            total += module.weight.numel()
        elif isinstance(module, nn.GroupNorm):
            total += _NORM * module.num_channels
    return total
