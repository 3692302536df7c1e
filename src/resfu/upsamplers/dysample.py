"""DySample: upsampling by dynamic sampling."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.checks import check_divides
from resfu.ops.grid import lr_position
from resfu.ops.layout import memory_format
from resfu.ops.precision import at_least_fp32
from resfu.ops.sampling import sample
from resfu.upsamplers.base import Size, Upsampler
from resfu.upsamplers.options import check_choice, check_dims, check_flags, check_whole
from resfu.upsamplers.starts import BILINEAR, PUBLISHED, at_zero, check_start, interpolated
from resfu.upsamplers.volumes import sample_voxels, voxel_shuffle

_STYLES = ("lp", "pl")
_STATIC, _DYNAMIC = 0.25, 0.5  # in low-resolution pixels per unit of the offset layer


class DySample(Upsampler):
    """Bilinear sampling at positions that the features themselves shift (arXiv 2308.15085).

    A 1 x 1 convolution predicts, for every output pixel and group of channels, an offset from the pixel's regular
    position. The features are sampled bilinearly at the shifted position, clamped to the border. So constants stay
    constant, and with zero offsets the result is bilinear interpolation.

    Style "lp" predicts offsets at low resolution and then interleaves them; "pl" interleaves the features first and
    predicts at the output's resolution from C / r^2 channels. Offsets are in low-resolution pixels: 0.25 times the
    prediction or, with dynamic scope, 0.5 times the prediction times the sigmoid of a second convolution. The paper's
    names are DySample (lp), DySample+ (lp, dynamic), DySample-S (pl) and DySample-S+ (pl, dynamic).

    Positions are computed in at least fp32, whatever the features' dtype: half precision would round them to 1/16 pixel
    on a map 128 pixels wide.

    Initialisation: the offset convolution is normal with deviation 0.001, bias 0; the scope convolution is 0, which
    gives a factor of 0.25.

    Args:
        channels: C, width of the features; a multiple of `groups`, for "pl" also of r^2 (r^3 for volumes).
        scale_factor: r, a whole number; the ratio it is built for.
        style: "lp" or "pl".
        groups: number of blocks of channels, each with offsets of its own.
        dynamic_scope: whether a second convolution scales the offsets.
        scope_bias: whether the second convolution has a bias. It has one in the authors' segmentation and detection
            code, but not in the current release of their module.
        dims: 2, or 3 for volumes [B, C, d, h, w], with offsets along three axes, sampled slab by slab to save memory.
        start: "published", or an interpolation that the untrained upsampler equals ("bilinear", "nearest", see
            `resfu.upsamplers.starts`).

    Raises:
        ValueError: for an unknown style, widths that do not divide or a ratio that is not a whole number.

    >>> up = resfu.DySample(64, scale_factor=2)
    >>> up(torch.randn(1, 64, 16, 16)).shape
    torch.Size([1, 64, 32, 32])
    """

    ratios = "fixed"
    paper = "2308.15085"
    compiled = True
    startable = True

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        style: str = "lp",
        groups: int = 4,
        dynamic_scope: bool = True,
        scope_bias: bool = False,
        dims: int = 2,
        start: str = PUBLISHED,
    ) -> None:
        ratio = check_whole("scale_factor", scale_factor)
        super().__init__(channels, scale_factor=ratio)
        check_choice("style", style, _STYLES)
        self.dims = check_dims(dims)
        check_flags(dynamic_scope=dynamic_scope, scope_bias=scope_bias)
        check_divides("groups", groups, "channels", channels)
        check_start(start)
        if style == "pl":
            power = "squared" if dims == 2 else "cubed"
            check_divides(f"the {power} scale_factor", ratio**dims, "channels of style 'pl'", channels)
        self.ratio = ratio
        self.style = style
        self.groups = groups
        self.start = start
        if dims == 3 and start != PUBLISHED:
            raise ValueError(f"start = {start!r} is for maps: leave it out for volumes (dims=3).")
        sub = ratio**dims
        widths = (channels, dims * groups * sub) if style == "lp" else (channels // sub, dims * groups)
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.offset = convolution(*widths, 1)
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.offset.bias)  # pyright: ignore[reportArgumentType]
        self.scope = convolution(*widths, 1, bias=scope_bias) if dynamic_scope else None
        if self.scope is not None:
            for parameter in self.scope.parameters():
                nn.init.zeros_(parameter)
        if start != PUBLISHED:
            at_zero(self.offset)

    def upsample(
        self, features: Float[Tensor, "B C *low"], guidance: Tensor | None, size: Size
    ) -> Float[Tensor, "B C *high"]:
        """Sample each group of channels at its shifted positions."""
        return self.carry(features, features, guidance, size)

    def carry(self, features: Tensor, values: Tensor, guidance: Tensor | None, size: Size) -> Tensor:
        """See `Upsampler.carry`."""
        if self.dims == 3:
            x = at_least_fp32(values)
            out = sample_voxels(x, lambda a, b: self.offsets(features[:, :, a:b]), self.ratio, self.groups)
            return out.to(values.dtype)
        (h, w), (H, W) = features.shape[-2:], size
        offsets = self.offsets(features)
        x = at_least_fp32(values)
        columns = lr_position(W, w, x.device, x.dtype) + offsets[:, 0]
        rows = lr_position(H, h, x.device, x.dtype)[:, None] + offsets[:, 1]
        out = sample(x, columns, rows)
        if self.start not in (PUBLISHED, BILINEAR):  # with zero offsets it already is bilinear
            out = out + interpolated(x, size, self.start) - interpolated(x, size, BILINEAR)
        return out.to(values.dtype, memory_format=memory_format(values))

    def offsets(self, features: Float[Tensor, "B C *low"]) -> Float[Tensor, "B dims G *high"]:
        """Offsets in low-resolution pixels: of columns, then of rows, then (for volumes) of planes."""
        shuffle = F.pixel_shuffle if self.dims == 2 else voxel_shuffle
        x = shuffle(features, self.ratio) if self.style == "pl" else features
        offsets = at_least_fp32(self.offset(x))
        offsets = offsets * (_STATIC if self.scope is None else _DYNAMIC * self.scope(x).sigmoid())
        if self.style == "lp":
            offsets = shuffle(offsets, self.ratio)
        return offsets.unflatten(1, (self.dims, self.groups))
