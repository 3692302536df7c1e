"""A2U: affinity-aware upsampling."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops import reassemble
from resfu.ops.pooling import adaptive_average
from resfu.ops.portable import is_portable
from resfu.ops.precision import at_least_fp32
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.normalization import GroupNorm

_KERNEL, _FILTER, _NORM_GROUPS = 3, 6, 32


class A2U(Upsampler):
    """Upsampling by 2 with kernels from second-order statistics of the guidance (arXiv 2011.14288).

    The guidance predicts two 6 x 6 filters for each image, shared by all channels, and is filtered with each of them at
    stride 2. After GroupNorm and LeakyReLU, the inner product of the two results over the channels is the affinity of a
    low-resolution pixel. It is multiplied by 36 numbers predicted from the guidance's mean, which gives the scores of
    3 x 3 neighbours for each of its four output pixels. The softmax of the sigmoid of these scores weighs the features.
    Neighbours beyond the border keep their weight and contribute 0, so borders darken: at uniform weights a constant 1
    gives 4/9 in a corner. torch's initialisation.

    This is the form for upsampling alone, with kernels shared by all channels, that later papers compare with: it has
    42 c + 38 parameters.

    Args:
        channels: C, width of the features.
        guidance_channels: c, width of the guidance; a multiple of 32.

    Raises:
        ValueError: for a width of the guidance that is no multiple of 32.

    >>> up = resfu.A2U(64, 32)
    >>> up(torch.randn(1, 64, 16, 16), torch.randn(1, 32, 32, 32)).shape
    torch.Size([1, 64, 32, 32])
    """

    guided = True
    ratios = "2"
    paper = "2011.14288"

    def __init__(self, channels: int, guidance_channels: int) -> None:
        super().__init__(channels, guidance_channels, scale_factor=2)
        if guidance_channels % _NORM_GROUPS:
            raise ValueError(f"guidance_channels must be a multiple of {_NORM_GROUPS}, got {guidance_channels}.")
        self.first_filter = nn.Conv2d(guidance_channels, 1, 1)
        self.second_filter = nn.Conv2d(guidance_channels, 1, 1)
        self.first_norm = GroupNorm(_NORM_GROUPS, guidance_channels)
        self.second_norm = GroupNorm(_NORM_GROUPS, guidance_channels)
        self.spread = nn.Conv2d(guidance_channels, 4 * _KERNEL**2, 1)

    def upsample(
        self,
        features: Float[Tensor, "B C h w"],
        guidance: Tensor | None,
        size: tuple[int, int],
        out: Tensor | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Turn the affinity of every pixel into the kernels of its four pixels, then reassemble."""
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
        spread = self.spread(guidance.mean((2, 3), keepdim=True))
        scores = F.pixel_shuffle(at_least_fp32(spread) * self._affinity(guidance), 2)
        return reassemble(values, scores.sigmoid(), size, "coarse", softmax=True, out=out)

    def _affinity(self, guidance: Float[Tensor, "B c H W"]) -> Float[Tensor, "B 1 h w"]:
        pooled = adaptive_average(guidance, (_FILTER, _FILTER))
        filters = torch.cat([self.first_filter(pooled), self.second_filter(pooled)], 1)
        first, second = (_filtered_by_a_product if is_portable() else _filtered)(guidance, filters).unbind(1)
        first = F.leaky_relu(self.first_norm(first), 0.01)
        second = F.leaky_relu(self.second_norm(second), 0.01)
        return (at_least_fp32(first) * second).sum(1, keepdim=True) / guidance.shape[1] ** 0.5


def _filtered(x: Tensor, filters: Float[Tensor, "B 2 6 6"]) -> Float[Tensor, "B 2 c h w"]:
    """Filter every image with its own pair of filters, by one convolution: images as groups, channels as the batch."""
    images = x.shape[0]
    channels = x.transpose(0, 1).contiguous()  # no view: inductor can't order its symbolic strides
    both = F.conv2d(channels, filters.flatten(0, 1)[:, None], stride=2, padding=2, groups=images)
    return both.unflatten(1, (images, 2)).movedim(0, 2)


def _filtered_by_a_product(x: Tensor, filters: Float[Tensor, "B 2 6 6"]) -> Float[Tensor, "B 2 c h w"]:
    """`_filtered` as a product of matrices, for runtimes whose convolutions need a fixed number of groups."""
    h, w = x.shape[-2] // 2, x.shape[-1] // 2
    x = F.pixel_unshuffle(F.pad(x, (2, 2, 2, 2)), 2).unflatten(1, (-1, 4)).transpose(1, 2)  # [B, a b, c, h + 2, w + 2]
    ends = [slice(n, n - 2 or None) for n in range(3)]
    taps = [x[:, :, :, rows, columns] for rows in ends for columns in ends]
    taps = torch.cat(taps, 1).flatten(2)  # [B, (n m) (a b), c h w]: tap 2 n + a, 2 m + b
    rows = filters.unflatten(3, (3, 2)).unflatten(2, (3, 2)).permute(0, 1, 2, 4, 3, 5).flatten(2)
    return (rows @ taps).unflatten(2, (-1, h, w))
