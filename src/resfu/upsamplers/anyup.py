"""AnyUp: attention from the image to the features of any encoder, with keys computed from image and features."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.attention import windowed_attention
from resfu.ops.checks import check_divides, check_int, check_odd
from resfu.ops.layout import memory_format
from resfu.ops.precision import at_least_fp32
from resfu.upsamplers import anyup_cpu
from resfu.upsamplers.bands import on_cpu_without_graph
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.image_encoder import Convolution, NormalizedBlock, check_mirrored
from resfu.upsamplers.options import check_flags, check_fraction
from resfu.upsamplers.plain import all_plain
from resfu.upsamplers.unify import Unify


class AnyUp(Upsampler):
    """Windowed attention from the image to the features of any encoder (arXiv 2510.12764).

    The image is encoded pixel by pixel, with its position. The query is computed from it at the output's size. The key
    is computed at the features' size, from the encoded image and from the features, which a layer for any number of
    channels reads (`Unify`). For every pixel, the softmax of the scores over the low-resolution pixels within
    `window_ratio` of it, averaged over the heads, weighs the unchanged features. So constants stay constant, and values
    stay within those of the window. It takes any real ratio. GroupNorm's statistics are those of the whole image.

    The released weights need the axis order that the released code has in `Unify`; this is the default. With it, the
    result depends on the order of the features' channels.

    Args:
        channels: C, width of the features; None takes any.
        guidance_channels: channels of the image. Image and features may have any size from 2 rows and columns.
        dim: D, width of query and key; a multiple of 8 and of `heads`.
        heads: number of blocks of channels, each with a softmax of its own.
        window_ratio: half the width of the window, as a share of the map; 0 makes the whole map the window.
        kernel_size: of the first convolution on the image.
        feature_kernel_size: size of the filters that read the features.
        feature_dim: M, number of these filters, a multiple of 8. Default: D.
        any_order: read the features as the paper describes, so that the order of their channels does not matter.

    Raises:
        ValueError: for an even kernel, widths that do not divide or, when called, an image or features of one row or
            column.

    >>> up = resfu.AnyUp(dim=32)
    >>> up(torch.randn(1, 384, 16, 16), torch.randn(1, 3, 64, 64)).shape
    torch.Size([1, 384, 64, 64])
    """

    guided = True
    image_guided = True
    paper = "2510.12764"
    compiled = True

    def __init__(
        self,
        channels: int | None = None,
        guidance_channels: int = 3,
        dim: int = 128,
        heads: int = 4,
        window_ratio: float = 0.1,
        kernel_size: int = 1,
        feature_kernel_size: int = 5,
        feature_dim: int | None = None,
        any_order: bool = False,
    ) -> None:
        super().__init__(channels, guidance_channels)
        check_int("dim", dim)
        check_divides("heads", heads, "dim", dim)
        feature_dim = dim if feature_dim is None else feature_dim
        check_int("feature_dim", feature_dim)
        for name, width in (("dim", dim), ("feature_dim", feature_dim)):
            check_divides("8", 8, name, width)
        check_fraction("window_ratio", window_ratio)
        check_odd("kernel_size", kernel_size)
        check_odd("feature_kernel_size", feature_kernel_size)
        check_flags(any_order=any_order)
        self.heads = heads
        self.window_ratio = window_ratio

        def block(width: int) -> NormalizedBlock:
            return NormalizedBlock(width, dim, 1, bias=False, residual=True)

        def encoder(width: int, kernel_size: int) -> nn.Sequential:
            return nn.Sequential(Convolution(width, dim, kernel_size, bias=False), block(dim), block(dim))

        self.image_encoder = encoder(guidance_channels, kernel_size)
        self.key_encoder = encoder(dim, 1)
        self.query_encoder = encoder(dim, 1)
        self.feature_encoder = nn.Sequential(
            Unify(feature_dim, feature_kernel_size, any_order), block(feature_dim), block(dim)
        )
        self.aggregation = encoder(2 * dim, 3)
        self.query_convolution = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.query_norm, self.key_norm = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.query_and_key = nn.Linear(dim, 2 * dim)
        self.frequencies = nn.Parameter(_first_frequencies(dim))
        bound = math.sqrt(6 / (4 * dim))  # Xavier's for queries, keys and values in one matrix, as published
        nn.init.uniform_(self.query_and_key.weight, -bound, bound)
        nn.init.zeros_(self.query_and_key.bias)

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Weigh each pixel's window by the mean of its heads' softmax."""
        assert guidance is not None
        for name, x in (("the image", guidance), ("the features", features)):
            check_mirrored(name, x.shape[-2:])
        guidance = guidance.contiguous()  # rounding errors should not depend on the memory format
        if on_cpu_without_graph(features, guidance) and all_plain(self):
            out = anyup_cpu.upsample(self, features, guidance, size)
            return out.contiguous(memory_format=memory_format(features))
        query, key = self.query_and_key_of(features, guidance, size)
        out = windowed_attention(query, key, features, self.heads, self.window_ratio)
        return out.contiguous(memory_format=memory_format(features))

    def query_and_key_of(self, features: Tensor, image: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Query [B, D, H, W] and key [B, D, h, w]."""
        encoded = self.placed(self.image_encoder(image))
        query = self.query_convolution(F.adaptive_avg_pool2d(self.query_encoder(encoded), size))
        low = (features.shape[-2], features.shape[-1])
        key = self.key(F.adaptive_avg_pool2d(self.key_encoder(encoded), low), features)
        return self.projected(query, "query").movedim(-1, 1), key

    def key(self, image: Float[Tensor, "B D h w"], features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """The key, from the encoded image and the features at low resolution, in at least fp32."""
        seen = self.feature_encoder(features)
        return self.projected(self.aggregation(torch.cat([image, seen], 1)), "key").movedim(-1, 1)

    def projected(self, x: Float[Tensor, "B D H W"], part: str) -> Float[Tensor, "B H W D"]:
        """Normalise a map over its channels and project it, with the layers of `part` ("query" or "key")."""
        norm, n = (self.query_norm, 0) if part == "query" else (self.key_norm, 1)
        x = at_least_fp32(x).movedim(1, -1)
        if not all_plain(self):
            return at_least_fp32(self.query_and_key(norm(x.to(self.frequencies.dtype))).chunk(2, -1)[n])
        weight, bias = (t.chunk(2)[n] for t in (self.query_and_key.weight, self.query_and_key.bias))
        x = F.rms_norm(x, norm.normalized_shape, norm.weight.to(x.dtype))
        return at_least_fp32(F.linear(x, weight.to(x.dtype), bias.to(x.dtype)))

    def placed(
        self, x: Float[Tensor, "B D n m"], first: tuple[int, int] = (0, 0), image: tuple[int, int] | None = None
    ) -> Tensor:
        """Encode positions: mix channels i and i + D / 2 by the cosine and sine of angles of the pixel's position.

        As in the published code, the two channels of a pair have different angles, so this is not a rotation.

        Args:
            x: a part of the encoded image.
            first: row and column of the image at the upper left corner of x.
            image: (Hy, Wy), size of the whole image. Default: the size of x.
        """
        axes = zip(image or x.shape[-2:], first, x.shape[-2:], strict=True)
        rows, columns = (
            _coordinates(P, x.device)[start : start + count].to(self.frequencies.dtype) for P, start, count in axes
        )
        of_row, of_column = self.frequencies[:, :, None, None]
        angle = at_least_fp32(of_row * rows[:, None] + of_column * columns)
        lower, upper = x.chunk(2, 1)
        return x * angle.cos().to(x.dtype) + torch.cat([-upper, lower], 1) * angle.sin().to(x.dtype)

    def _resized(self, guidance: Tensor, size: tuple[int, int]) -> Tensor:
        return guidance


def _coordinates(P: int, device: torch.device) -> Tensor:
    """Coordinates [P] of an axis: 0 at the first pixel, 1 at the last; 0 if there is only one pixel."""
    return torch.arange(P, device=device, dtype=torch.float64) / max(P - 1, 1)


def _first_frequencies(dim: int) -> Tensor:
    """Frequencies [2, D] for rows and columns: 2 pi to 2 pi / 100, twice; rows in the first half of the channels."""
    # linspace gets the device by name: after transformers has loaded a model, `with torch.device(...)` has no effect.
    frequency = 2 * math.pi * 100 ** -torch.linspace(0, 1, dim // 4, device=torch.get_default_device())
    twice, none = frequency.repeat(2), torch.zeros(dim // 2)
    return torch.stack([torch.cat([twice, none]), torch.cat([none, twice])])
