"""Multiply-accumulates of every upsampler's published algorithm, by formula, from its layers.

The code here is cheaper for the same result: keys stay at low resolution, and window sums are computed by doubling. The
published tables count the published algorithm: ReSFU's similarity on the high-resolution grid, its guided filter as two
17-tap convolutions per window mean, and so on.
"""

from dataclasses import dataclass
from functools import singledispatch
from typing import NamedTuple

from torch import nn

from resfu.upsamplers.a2u import A2U
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.carafe import CARAFE
from resfu.upsamplers.dysample import DySample
from resfu.upsamplers.fade import FADE
from resfu.upsamplers.fixed import Bicubic, Bilinear, Deconv, Nearest, PixelShuffle
from resfu.upsamplers.indexnet import IndexNet
from resfu.upsamplers.jbu import JBU, StackJBU
from resfu.upsamplers.resfu import ReSFU
from resfu.upsamplers.sapa import SAPA
from resfu.upsamplers.similarity import SimilarityBlock

_LINEAR = 4  # per element, for bilinear and bicubic resampling and grid sampling
_NORM = 5  # per element, with affine
_BATCH_NORM = 2  # the same, with fixed statistics


class Count(NamedTuple):
    """Multiply-accumulates in two parts.

    Args:
        seen: the part that fvcore counts, as in the published tables.
        unseen: the part that fvcore does not count: custom operations (reassembly, inner products with neighbours) and
            bicubic resampling.
    """

    seen: int
    unseen: int = 0


@dataclass(frozen=True)
class Call:
    """The sizes of one call of an upsampler.

    Args:
        batch: number of images.
        channels: C, width of the features.
        low: (h, w) of the features.
        size: (H, W) of the output.
        guidance: number of elements of the guidance, 0 without one.
    """

    batch: int
    channels: int
    low: tuple[int, int]
    size: tuple[int, int]
    guidance: int = 0

    @property
    def cells(self) -> int:
        """Low-resolution positions, B h w."""
        return self.batch * self.low[0] * self.low[1]

    @property
    def pixels(self) -> int:
        """Output positions, B H W."""
        return self.batch * self.size[0] * self.size[1]

    @property
    def elements(self) -> int:
        """Elements of the output, B C H W."""
        return self.channels * self.pixels


@singledispatch
def published_count(up: Upsampler, call: Call) -> Count:
    """Multiply-accumulates of the published algorithm in one call, by fvcore's convention.

    Args:
        up: the upsampler; its widths and options matter, its weights do not.
        call: the sizes.

    Raises:
        ValueError: for a class without a formula.
    """
    raise ValueError(f"there is no published count for {type(up).__name__}: register a formula with published_count.")


@published_count.register
def _(up: Nearest, call: Call) -> Count:
    return Count(call.elements)


@published_count.register
def _(up: Bilinear, call: Call) -> Count:
    return Count(_LINEAR * call.elements)


@published_count.register
def _(up: Bicubic, call: Call) -> Count:
    return Count(0, _LINEAR * call.elements)


@published_count.register
def _(up: Deconv | PixelShuffle, call: Call) -> Count:
    return Count(_weights(up.convolution) * call.cells)


@published_count.register
def _(up: JBU, call: Call) -> Count:
    """Two small networks and the range kernel's product; unseen: bicubic resampling and the adaptive convolution."""
    window = (2 * up.radius + 1) ** 2
    keys = up.range_projection[-1]
    assert isinstance(keys, nn.Conv2d)
    seen = _weights(up.range_projection, up.kernel_fixup) + window * keys.out_channels
    return Count(seen * call.pixels, (_LINEAR + window) * call.elements)


@published_count.register
def _(up: StackJBU, call: Call) -> Count:
    """Each step's module on the averaged image (1 per element read), and the last convolution."""
    seen, unseen, low = _weights(up.fixup) * call.pixels, 0, call.low
    for stage in up.stages.values():
        size = (2 * low[0], 2 * low[1])
        step = published_count(stage, Call(call.batch, call.channels, low, size))
        seen, unseen, low = seen + step.seen + call.guidance, unseen + step.unseen, size
    return Count(seen, unseen)


@published_count.register
def _(up: CARAFE, call: Call) -> Count:
    window = up.encoder.out_channels // (up.groups * up.ratio**2)
    return Count(_weights(up.compressor, up.encoder) * call.cells, window * call.elements)


@published_count.register
def _(up: IndexNet, call: Call) -> Count:
    seen = _weights(up.encoder)
    if up.nonlinear:
        seen += _BATCH_NORM * up.encoder.out_channels + _weights(up.index)
    return Count(seen * call.cells + call.elements)


@published_count.register
def _(up: FADE, call: Call) -> Count:
    """The low-to-high form: the shared convolution on both maps, the features' scores repeated."""
    window = up.encoder.out_channels
    fine = _weights(up.guidance_compressor, up.encoder) + window
    coarse = _weights(up.features_compressor, up.encoder)
    if up.gate is not None:
        fine, coarse = fine + 1, coarse + _weights(up.gate)
    return Count(fine * call.pixels + coarse * call.cells, window * call.elements)


@published_count.register
def _(up: SAPA, call: Call) -> Count:
    window = up.kernel_size**2
    fine = _norm(up.guidance_norm, up.query.in_channels) + _weights(up.query)
    coarse = _norm(up.features_norm, up.key.in_channels) + _weights(up.key)
    scores = window * up.query.out_channels * call.pixels
    return Count(fine * call.pixels + coarse * call.cells, scores + window * call.elements)


@published_count.register
def _(up: DySample, call: Call) -> Count:
    weights = _weights(up.offset) + (0 if up.scope is None else _weights(up.scope))
    return Count(weights * (call.cells if up.style == "lp" else call.pixels) + _LINEAR * call.elements)


@published_count.register
def _(up: A2U, call: Call) -> Count:
    """Per image: pooling, and two predicted filters, each applied at low resolution with a normalisation."""
    pooled = 6**2
    filters = _weights(up.first_filter, up.second_filter)
    width = up.first_norm.num_channels
    seen = call.guidance + call.batch * (pooled * filters + _weights(up.spread))
    seen += 2 * (pooled + _NORM) * width * call.cells
    return Count(seen, up.spread.out_channels // 4 * call.elements)


@published_count.register
def _(up: ReSFU, call: Call) -> Count:
    """Key and query on the high-resolution grid; fine neighbours are sampled bilinearly."""
    D, K, P = up.query.out_channels, up.kernel_size, call.pixels
    window, seen = K**2, (_norm(up.guidance_norm, up.query.in_channels) + _weights(up.query)) * P
    unseen = window * (1 + (_LINEAR if up.neighbours == "fine" else 0)) * call.elements
    if up.alignment != "detail":
        seen += (_norm(up.features_norm, call.channels) + _weights(up.key)) * call.cells + _upsampled_key(up, call)
        seen += _guided_filter(up, call) if up.guided_query else 0
    if up.alignment != "semantic" and up.smoothed_key:
        seen += 3**2 * D * P
    spaces = 2 if up.alignment == "both" else 1
    if up.similarity == "inner_product":
        return Count(seen, unseen + spaces * window * D * P)
    block = up.detail_similarity if up.alignment == "detail" else up.semantic_similarity
    return Count(seen + spaces * _similarity(block, D) * P, unseen)


def _upsampled_key(up: ReSFU, call: Call) -> int:
    """Bilinear for the guided filter and fine neighbours, repeated for coarse neighbours."""
    linear = up.neighbours == "fine" or up.guided_query
    repeated = up.neighbours == "coarse"
    return (_LINEAR * linear + repeated) * up.query.out_channels * call.pixels


def _guided_filter(up: ReSFU, call: Call) -> int:
    """Seven window means (four moments, two coefficients, the number of pixels), each along rows and along columns."""
    stride, D = up.guided_filter_stride, up.query.out_channels
    means = 7 * 2 * (2 * (up.guided_filter_radius // stride) + 1) * D
    if stride == 1:
        return means * call.pixels
    smaller = call.batch * (call.size[0] // stride) * (call.size[1] // stride)
    return (means + 2 * D) * smaller + 2 * _LINEAR * D * call.pixels  # downsample both maps, upsample both coefficients


def _similarity(block: SimilarityBlock, dim: int) -> int:
    """Per pixel: normalisation of both maps, the convolution, its centre term, the compressor."""
    convolution = block.weight.numel()
    centre = convolution // block.weight[0, 0].numel() if block.similarity == "pcdc" else 0
    compressor = _weights(block.reduce, block.score) + _NORM * block.reduce.out_channels
    return 2 * _NORM * dim + convolution + centre + compressor


def _weights(*modules: nn.Module) -> int:
    """Number of convolution weights; each is used once per position."""
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    return sum(m.weight.numel() for module in modules for m in module.modules() if isinstance(m, convolutions))


def _norm(norm: nn.Module, channels: int) -> int:
    return 0 if isinstance(norm, nn.Identity) else _NORM * channels
