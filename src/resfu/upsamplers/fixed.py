"""Upsamplers whose weights do not depend on the content: interpolation, and two learned layers."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.checks import check_odd
from resfu.ops.nearest import repeated
from resfu.upsamplers.base import Size, Upsampler
from resfu.upsamplers.options import check_dims, check_whole
from resfu.upsamplers.volumes import trilinear


class Nearest(Upsampler):
    """Nearest-neighbour interpolation: out[p, q] = x[floor(p h / H), floor(q w / W)].

    Where p h / H is a whole number, rounding can make `F.interpolate` read the pixel before it. This class reads the
    right pixel, up to h H = 2^21.

    Args:
        scale_factor: ratio used when neither a size nor a guidance is given.

    >>> resfu.Nearest(scale_factor=2)(torch.tensor([[[[1.0, 2.0]]]]))
    tensor([[[[1., 1., 2., 2.],
              [1., 1., 2., 2.]]]])
    """

    def __init__(self, scale_factor: int | float | None = None) -> None:
        super().__init__(scale_factor=scale_factor)

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Repeat each low-resolution pixel."""
        return repeated(features, size)

    def carry(self, features: Tensor, values: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        """See `Upsampler.carry`."""
        return self.upsample(values, guidance, size)


class Bilinear(Upsampler):
    """Bilinear interpolation with half-pixel centres (`align_corners=False`) and clamped borders; trilinear if dims=3.

    Args:
        scale_factor: ratio used when neither a size nor a guidance is given.
        dims: 2, or 3 for volumes [B, C, d, h, w]. The backward pass of volumes is deterministic on every device.

    Raises:
        ValueError: for other `dims`.

    >>> resfu.Bilinear()(torch.tensor([[[[1.0, 2.0]]]]), size=(1, 4))
    tensor([[[[1.0000, 1.2500, 1.7500, 2.0000]]]])
    """

    def __init__(self, scale_factor: int | float | None = None, dims: int = 2) -> None:
        super().__init__(scale_factor=scale_factor)
        self.dims = check_dims(dims)

    def upsample(self, features: Tensor, guidance: Tensor | None, size: Size) -> Tensor:
        """Interpolate linearly along each axis."""
        if len(size) == 3:
            return trilinear(features, size)
        return F.interpolate(features, size=size, mode="bilinear", align_corners=False)

    def carry(self, features: Tensor, values: Tensor, guidance: Tensor | None, size: Size) -> Tensor:
        """See `Upsampler.carry`."""
        return self.upsample(values, guidance, size)


class Bicubic(Upsampler):
    """Bicubic interpolation (a = -0.75) with half-pixel centres (`align_corners=False`) and clamped borders.

    Constants stay constant. Next to edges the result overshoots the range of the features.

    Args:
        scale_factor: ratio used when neither a size nor a guidance is given.

    >>> resfu.Bicubic()(torch.randn(1, 64, 16, 16), size=(40, 33)).shape
    torch.Size([1, 64, 40, 33])
    """

    def __init__(self, scale_factor: int | float | None = None) -> None:
        super().__init__(scale_factor=scale_factor)

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Interpolate with four taps along rows and columns."""
        return F.interpolate(features, size=size, mode="bicubic", align_corners=False)

    def carry(self, features: Tensor, values: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        """See `Upsampler.carry`."""
        return self.upsample(values, guidance, size)


class Deconv(Upsampler):
    """Transposed convolution whose kernel and stride are the ratio (arXiv 1411.4038, as compared in 2407.02283).

    out[o, r i + a, r j + b] = bias[o] + sum_c x[c, i, j] weight[c, o, a, b]. The windows do not overlap, so every
    output pixel sees one low-resolution pixel and borders are not a special case. It has C^2 r^2 + C parameters, with
    torch's initialisation.

    Args:
        channels: C, width of the features and of the output.
        scale_factor: r, a whole number; the ratio it is built for.

    Raises:
        ValueError: for a ratio that is not a whole number.

    >>> up = resfu.Deconv(64, scale_factor=2)
    >>> up(torch.randn(1, 64, 16, 16)).shape
    torch.Size([1, 64, 32, 32])
    """

    ratios = "fixed"
    paper = "1411.4038"

    def __init__(self, channels: int, scale_factor: int = 2) -> None:
        ratio = check_whole("scale_factor", scale_factor)
        super().__init__(channels, scale_factor=ratio)
        self.convolution = nn.ConvTranspose2d(channels, channels, ratio, stride=ratio)

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Turn each low-resolution pixel into r x r pixels."""
        return self.convolution(features)


class PixelShuffle(Upsampler):
    """Sub-pixel convolution: r^2 maps for each channel, interleaved into one map r times as large (arXiv 1609.05158).

    A convolution maps C channels to C r^2; its channel o r^2 + a r + b becomes sub-pixel (a, b) of output channel o.
    With the 1 x 1 kernel of the networks compared in the ReSFU paper it has C^2 r^2 + C r^2 parameters, and borders are
    not a special case. torch's initialisation.

    Args:
        channels: C, width of the features and of the output.
        scale_factor: r, a whole number; the ratio it is built for.
        kernel_size: of the convolution, odd; the map is padded with zeros.

    Raises:
        ValueError: for an even kernel or a ratio that is not a whole number.

    >>> up = resfu.PixelShuffle(64, scale_factor=2)
    >>> up(torch.randn(1, 64, 16, 16)).shape
    torch.Size([1, 64, 32, 32])
    """

    ratios = "fixed"
    paper = "1609.05158"

    def __init__(self, channels: int, scale_factor: int = 2, kernel_size: int = 1) -> None:
        ratio = check_whole("scale_factor", scale_factor)
        check_odd("kernel_size", kernel_size)
        super().__init__(channels, scale_factor=ratio)
        self.ratio = ratio
        self.convolution = nn.Conv2d(channels, channels * ratio**2, kernel_size, padding=kernel_size // 2)

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Apply the convolution, then interleave its channels into pixels."""
        return F.pixel_shuffle(self.convolution(features), self.ratio)
