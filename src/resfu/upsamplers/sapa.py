"""SAPA: similarity-aware point affiliation."""

from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops import correlate
from resfu.ops.backends import which_backend
from resfu.ops.checks import check_int, check_odd
from resfu.ops.precision import at_least_fp32
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.normalization import ChannelLayerNorm, group_norm
from resfu.upsamplers.options import check_choice, check_flags
from resfu.upsamplers.projection import project
from resfu.upsamplers.starts import PUBLISHED, at_zero, check_start, reassemble_from

_NORMS = ("group", "layer", "none")


class SAPA(Upsampler):
    """Reassembly with the similarity of guidance and features as kernel (arXiv 2209.12866, SAPA-B).

    The guidance gives a query, the features a key. The softmax of their unscaled inner products weighs the features of
    the K x K neighbours of the low-resolution pixel that contains the output pixel. Any real ratio.

    Neighbours beyond the border have the score 0, stay in the softmax and contribute 0. So borders darken, and how much
    they darken depends on the content: at K = 5 a constant 1 gives 0.919 in a corner if all scores are 3, and 0.027 if
    they are -3.

    Initialisation: the projections are normal with deviation 0.02 (truncated for norm="layer"), biases 0.

    Args:
        channels: C, width of the features.
        guidance_channels: c, width of the guidance.
        kernel_size: K, odd.
        projection_dim: width of query and key.
        norm: before the projections: "group" (as in the extended release: GroupNorm of 32 groups, or of the largest
            smaller number that divides the width), "layer" (as in the first release: LayerNorm over the channels of
            each pixel) or "none".
        projection_bias: whether the projections have a bias.
        start: "published", or an interpolation that the untrained upsampler equals ("bilinear", "nearest", see
            `resfu.upsamplers.starts`).

    Raises:
        ValueError: for an even kernel or an unknown norm.

    >>> up = resfu.SAPA(64, 32)
    >>> up(torch.randn(1, 64, 16, 16), torch.randn(1, 32, 32, 32)).shape
    torch.Size([1, 64, 32, 32])
    """

    guided = True
    paper = "2209.12866"
    compiled = True
    startable = True

    def __init__(
        self,
        channels: int,
        guidance_channels: int,
        kernel_size: int = 5,
        projection_dim: int = 32,
        norm: str = "group",
        projection_bias: bool = True,
        start: str = PUBLISHED,
    ) -> None:
        super().__init__(channels, guidance_channels)
        check_odd("kernel_size", kernel_size)
        check_choice("norm", norm, _NORMS)
        check_int("projection_dim", projection_dim)
        check_flags(projection_bias=projection_bias)
        check_start(start)
        self.start = start
        self.kernel_size = kernel_size
        self.guidance_norm = _norm(norm, guidance_channels)
        self.features_norm = _norm(norm, channels)
        self.query = nn.Conv2d(guidance_channels, projection_dim, 1, bias=projection_bias)
        self.key = nn.Conv2d(channels, projection_dim, 1, bias=projection_bias)
        for projection in (self.query, self.key):
            initialise = nn.init.trunc_normal_ if norm == "layer" else nn.init.normal_
            initialise(projection.weight, std=0.02)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)
        if start != PUBLISHED:
            at_zero(self.query)

    def upsample(
        self,
        features: Float[Tensor, "B C h w"],
        guidance: Tensor | None,
        size: tuple[int, int],
        out: Tensor | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Weigh each pixel's neighbours by the softmax of their similarity."""
        return self.carry(features, features, guidance, size, out)

    def carry(
        self,
        features: Tensor,
        values: Tensor,
        guidance: Tensor | None,
        size: tuple[int, int],
        out: Tensor | None = None,
    ) -> Tensor:
        """See `Upsampler.carry`."""
        assert guidance is not None
        planar = which_backend(guidance) == "numba"  # Numba's kernels read rows of pixels
        query = at_least_fp32(project(self.query, guidance, self.guidance_norm, planar=planar))
        key = project(self.key, features, self.features_norm, planar=planar)
        scores = correlate(query, key, self.kernel_size, "coarse", "zero")
        return reassemble_from(self.start, values, scores, size, out=out)


def _norm(norm: str, channels: int) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    return group_norm(channels) if norm == "group" else ChannelLayerNorm(channels)
