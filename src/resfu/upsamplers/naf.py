"""NAF: neighbourhood attention with weights computed from the image alone."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.attention import neighbourhood_attention
from resfu.ops.checks import check_divides, check_int, check_odd
from resfu.ops.precision import at_least_fp32
from resfu.upsamplers import naf_cpu
from resfu.upsamplers.bands import on_cpu_without_graph
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.image_encoder import Convolution, NormalizedBlock, check_mirrored
from resfu.upsamplers.options import check_number
from resfu.upsamplers.plain import all_plain
from resfu.upsamplers.rotation import rotary_angles, rotate

_FINER = 4  # the encoder sees the image at no more than 4 times the output's size


class NAF(Upsampler):
    """Neighbourhood attention from the image to the features of any frozen encoder (arXiv 2511.18452).

    Two stacks of convolutions, one of 1 x 1 and one of 3 x 3, encode the image. The query is this encoding, pooled to
    the output's size and rotated by position. The key of a low-resolution pixel is the average of the query over this
    pixel. The softmax of the inner products of query and key over K x K low-resolution pixels weighs the unchanged
    features. So the weights do not depend on the encoder of the features, constants stay constant, and values stay
    within those of the window.

    It takes any real ratio: the window's centre is the low-resolution pixel that contains the centre of the output
    pixel. At borders windows are moved inwards. An axis of fewer than K low-resolution pixels is the window itself.

    GroupNorm's statistics are those of the whole image. In training, one factor for all coordinates is drawn at every
    call, log-uniform between 1 / rope_rescale and rope_rescale. torch's initialisation.

    Args:
        channels: C, width of the features; None takes any multiple of `heads`.
        guidance_channels: channels of the image, which may have any size from 2 rows and columns.
        dim: D, width of query and key; a multiple of 16 and of 4 `rope_heads`.
        heads: G, number of blocks of channels, each with attention of its own; divides D and the features' width.
        rope_heads: number of blocks of channels that are rotated alike; each has D / (4 rope_heads) periods.
        kernel_size: K, odd.
        layers: L, number of blocks of two convolutions in each stack.
        rope_base: ratio of the longest period to the shortest, approximately.
        rope_rescale: range of the random factor, from 1 (no random factor).

    Raises:
        ValueError: for an even kernel, widths that are not such multiples or, when called, an image of one row or
            column.

    >>> up = resfu.NAF(dim=32)
    >>> up(torch.zeros(1, 384, 16, 16), torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 384, 64, 64])
    """

    guided = True
    image_guided = True
    paper = "2511.18452"
    compiled = True

    def __init__(
        self,
        channels: int | None = None,
        guidance_channels: int = 3,
        dim: int = 256,
        heads: int = 4,
        rope_heads: int = 4,
        kernel_size: int = 9,
        layers: int = 2,
        rope_base: float = 100.0,
        rope_rescale: float = 2.0,
    ) -> None:
        super().__init__(channels, guidance_channels)
        check_int("dim", dim)
        check_divides("heads", heads, "dim", dim)
        check_int("rope_heads", rope_heads)
        if dim % 16 or dim % (4 * rope_heads):
            raise ValueError(f"dim = {dim} must be a multiple of 16 and of 4 rope_heads, rope_heads = {rope_heads}.")
        if channels is not None:
            check_divides("heads", heads, "channels", channels)
        check_odd("kernel_size", kernel_size)
        check_int("layers", layers, least=0)
        check_number("rope_base", rope_base, least=1)
        check_number("rope_rescale", rope_rescale, least=1)
        self.dim = dim
        self.heads = heads
        self.rope_heads = rope_heads
        self.kernel_size = kernel_size
        self.rope_base = rope_base
        self.rope_rescale = rope_rescale
        self.pixel_encoder = _stack(guidance_channels, dim // 2, 1, layers)
        self.context_encoder = _stack(guidance_channels, dim // 2, 3, layers)

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Weigh each pixel's window by the softmax of its scores."""
        assert guidance is not None
        check_divides("heads", self.heads, "the features' width", features.shape[1])
        image = self.reduced(guidance, size)
        if on_cpu_without_graph(features, image) and all_plain(self):
            return naf_cpu.upsample(self, features, image, size)
        query = self.query(image, size)
        key = F.adaptive_avg_pool2d(query, (features.shape[-2], features.shape[-1]))
        return neighbourhood_attention(query, key, features, self.kernel_size, self.heads)

    def angles(self, width: int, size: tuple[int, int], device: torch.device) -> list[Tensor]:
        """Rotation angles for the pairs of channels of a head, along rows [F, H] and along columns [F, W]."""
        rescale = 1.0
        if self.training and self.rope_rescale > 1:
            rescale = self.rope_rescale ** (2 * torch.rand((), device=device, dtype=torch.float64) - 1)
        return [rotary_angles(P, width // self.rope_heads, self.rope_base, rescale, device) for P in size]

    def query(self, image: Tensor, size: tuple[int, int]) -> Float[Tensor, "B D H W"]:
        """The query: the encoded image, pooled to `size` and rotated by position, in at least fp32."""
        encoded = [encoder(image) for encoder in (self.pixel_encoder, self.context_encoder)]
        query = F.adaptive_avg_pool2d(at_least_fp32(torch.cat(encoded, 1)), size)
        return rotate(query, self.rope_heads, *self.angles(query.shape[1], size, query.device))

    def reduced(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """The image, contiguous (so rounding errors do not depend on its format), at most 4 times the output's size."""
        check_mirrored("the image", image.shape[-2:])
        image = image.contiguous()
        (Hy, Wy), (H, W) = image.shape[-2:], size
        if Hy <= _FINER * H and Wy <= _FINER * W:
            return image
        return F.interpolate(image, size=(min(Hy, _FINER * H), min(Wy, _FINER * W)), mode="bilinear")

    def _resized(self, guidance: Tensor, size: tuple[int, int]) -> Tensor:
        return guidance


def _stack(in_channels: int, width: int, kernel_size: int, layers: int) -> nn.Sequential:
    blocks = (NormalizedBlock(width, width, kernel_size, bias=True, residual=False) for _ in range(layers))
    return nn.Sequential(Convolution(in_channels, width, kernel_size, bias=True), *blocks)
