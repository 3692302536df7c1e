"""CARAFE: content-aware reassembly of features."""

from typing import cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.checks import check_divides, check_int, check_odd
from resfu.upsamplers.base import Size, Upsampler
from resfu.upsamplers.options import check_dims, check_whole
from resfu.upsamplers.projection import project
from resfu.upsamplers.starts import PUBLISHED, at_zero, check_start, reassemble_from
from resfu.upsamplers.volumes import reassemble_voxels


class CARAFE(Upsampler):
    """Reassembly with kernels that the features themselves predict (arXiv 1905.02188).

    A 1 x 1 convolution narrows the features, a second convolution predicts K x K scores for each of the r x r pixels of
    a low-resolution pixel, and their softmax weighs that pixel's K x K neighbours. Neighbours beyond the border keep
    their weight and contribute 0: at K = 5 and uniform weights a constant 1 gives 0.36 in a corner and 0.6 at an edge.

    Initialisation: Xavier-uniform for the first convolution, normal with deviation 0.001 for the second, biases 0. So
    it starts nearly as a box filter.

    Args:
        channels: C, width of the features.
        scale_factor: r, a whole number; the ratio it is built for.
        kernel_size: K, odd, of the reassembly.
        groups: number of blocks of channels, each with kernels of its own; divides C.
        encoder_kernel_size: odd, of the convolution that predicts the kernels.
        compressed_channels: width between the two convolutions.
        encoder_dilation: of the convolution that predicts the kernels.
        dims: 2, or 3 for volumes [B, C, d, h, w]. In 3-D, kernels have K^3 weights for each of r^3 voxels, and are
            computed slab by slab to save memory.
        start: "published", or an interpolation that the untrained upsampler equals ("bilinear", "nearest", see
            `resfu.upsamplers.starts`).

    Raises:
        ValueError: for an even kernel, groups that do not divide C or a ratio that is not a whole number.

    >>> up = resfu.CARAFE(64, scale_factor=2)
    >>> up(torch.randn(1, 64, 16, 16)).shape
    torch.Size([1, 64, 32, 32])
    """

    ratios = "fixed"
    paper = "1905.02188"
    compiled = True
    startable = True

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        kernel_size: int = 5,
        groups: int = 1,
        encoder_kernel_size: int = 3,
        compressed_channels: int = 64,
        encoder_dilation: int = 1,
        dims: int = 2,
        start: str = PUBLISHED,
    ) -> None:
        ratio = check_whole("scale_factor", scale_factor)
        super().__init__(channels, scale_factor=ratio)
        check_odd("kernel_size", kernel_size)
        check_odd("encoder_kernel_size", encoder_kernel_size)
        check_divides("groups", groups, "channels", channels)
        check_int("compressed_channels", compressed_channels)
        check_int("encoder_dilation", encoder_dilation)
        check_start(start)
        self.ratio = ratio
        self.groups = groups
        self.start = start
        self.dims = check_dims(dims)
        if dims == 3 and start != PUBLISHED:
            raise ValueError(f"start = {start!r} is for maps: leave it out for volumes (dims=3).")
        self.kernel_size = kernel_size
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.compressor = convolution(channels, compressed_channels, 1)
        self.encoder = convolution(
            compressed_channels,
            groups * kernel_size**dims * ratio**dims,
            encoder_kernel_size,
            padding=(encoder_kernel_size // 2) * encoder_dilation,
            dilation=encoder_dilation,
        )
        nn.init.xavier_uniform_(self.compressor.weight)
        nn.init.normal_(self.encoder.weight, std=0.001)
        for convolution in (self.compressor, self.encoder):
            nn.init.zeros_(convolution.bias)  # pyright: ignore[reportArgumentType]
        if start != PUBLISHED:
            at_zero(self.encoder)

    def upsample(
        self,
        features: Float[Tensor, "B C *low"],
        guidance: Tensor | None,
        size: Size,
        out: Tensor | None = None,
    ) -> Float[Tensor, "B C *high"]:
        """Predict each pixel's kernel, then reassemble."""
        return self.carry(features, features, guidance, size, out)

    def carry(
        self,
        features: Tensor,
        values: Tensor,
        guidance: Tensor | None,
        size: Size,
        out: Tensor | None = None,
    ) -> Tensor:
        """See `Upsampler.carry`."""
        if self.dims == 3:
            return self._reassembled_volume(features, values)
        scores = F.pixel_shuffle(self.encoder(project(cast("nn.Conv2d", self.compressor), features)), self.ratio)
        return reassemble_from(self.start, values, scores, size, groups=self.groups, out=out)

    def _reassembled_volume(self, features: Tensor, values: Tensor) -> Tensor:
        compressed = self.compressor(features)
        encoder = self.encoder
        reach = int(encoder.padding[0])

        def scores(first: int, last: int) -> Tensor:
            padded = F.pad(compressed, (0, 0, 0, 0, reach, reach))[:, :, first : last + 2 * reach]
            padding, dilation = (0, reach, reach), int(encoder.dilation[0])
            return F.conv3d(padded, encoder.weight, encoder.bias, padding=padding, dilation=dilation)

        return reassemble_voxels(values, scores, self.kernel_size, self.ratio, self.groups)
