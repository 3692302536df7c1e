"""FADE: fusing the assets of decoder and encoder."""

from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.checks import check_int, check_odd
from resfu.ops.nearest import repeated
from resfu.ops.transforms import add_into
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.options import check_flags
from resfu.upsamplers.projection import project
from resfu.upsamplers.starts import PUBLISHED, at_zero, check_start, reassemble_from


class FADE(Upsampler):
    """Reassembly with kernels that features and guidance predict together (arXiv 2207.10392; gate-free by default).

    Features and guidance are each narrowed to `compressed_channels` and go through one shared convolution, which gives
    scores (so its bias enters twice). The features' scores are repeated to the output's resolution and added to the
    guidance's. The softmax of the sum weighs the K x K neighbours of the low-resolution pixel that contains the output
    pixel. This is the low-to-high form of the method, which equals the full-resolution form but needs less memory.

    The published code is for ratio 2; nearest-neighbour repetition extends it to any whole ratio. Neighbours beyond the
    border keep their weight and contribute 0: at K = 5 and uniform weights a constant 1 gives 0.36 in a corner and 0.6
    at an edge.

    Initialisation: Xavier-uniform, biases 0.

    Args:
        channels: C, width of the features.
        guidance_channels: c, width of the guidance.
        kernel_size: K, odd, of the reassembly.
        compressed_channels: width of the compressed maps; not used by `lite`.
        gated: mix the guidance in: out = gate guidance + (1 - gate) reassembled. The gate is predicted from the
            features; needs c = C.
        lite: compress to K x K channels and convolve each of them by itself (FADE-Lite, arXiv 2407.13500).
        encoder_kernel_size: odd, of the shared convolution.
        start: "published", or an interpolation that the untrained upsampler equals ("bilinear", "nearest", see
            `resfu.upsamplers.starts`). Not with a gate, which mixes the guidance in from the beginning.

    Raises:
        ValueError: for an even kernel, a gate with c not equal to C, or a start together with a gate.

    >>> up = resfu.FADE(64, 32)
    >>> up(torch.randn(1, 64, 16, 16), torch.randn(1, 32, 32, 32)).shape
    torch.Size([1, 64, 32, 32])
    """

    guided = True
    ratios = "integer"
    paper = "2207.10392"
    compiled = True
    startable = True

    def __init__(
        self,
        channels: int,
        guidance_channels: int,
        kernel_size: int = 5,
        compressed_channels: int = 64,
        gated: bool = False,
        lite: bool = False,
        encoder_kernel_size: int = 3,
        start: str = PUBLISHED,
    ) -> None:
        super().__init__(channels, guidance_channels)
        check_odd("kernel_size", kernel_size)
        check_odd("encoder_kernel_size", encoder_kernel_size)
        check_int("compressed_channels", compressed_channels)
        check_flags(gated=gated, lite=lite)
        check_start(start)
        if gated and start != PUBLISHED:
            raise ValueError(
                f"gated=True mixes the guidance in from the beginning: start = {start!r} needs gated=False."
            )
        if gated and guidance_channels != channels:
            raise ValueError(
                f"gated=True mixes the guidance into the features: guidance_channels = {guidance_channels} must equal "
                f"channels = {channels}."
            )
        self.start = start
        scores = kernel_size**2
        width = scores if lite else compressed_channels
        self.guidance_compressor = nn.Conv2d(guidance_channels, width, 1)
        self.features_compressor = nn.Conv2d(channels, width, 1, bias=False)
        self.encoder = nn.Conv2d(
            width, scores, encoder_kernel_size, padding=encoder_kernel_size // 2, groups=scores if lite else 1
        )
        self.gate = nn.Conv2d(channels, 1, 1) if gated else None
        for module in self.children():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if start != PUBLISHED:
            at_zero(self.encoder)

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Predict each pixel's kernel, reassemble, and mix the guidance in if `gated`."""
        out = self._reassembled(features, features, guidance, size)
        if self.gate is None:
            return out
        assert guidance is not None
        gate = repeated(self.gate(features).sigmoid(), size).to(out.dtype)
        return gate * guidance.to(out.dtype) + (1 - gate) * out

    def carry(self, features: Tensor, values: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        """See `Upsampler.carry`."""
        if self.gate is not None:
            return super().carry(features, values, guidance, size)
        return self._reassembled(features, values, guidance, size)

    def _reassembled(self, features: Tensor, values: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        assert guidance is not None
        fine = self.encoder(project(self.guidance_compressor, guidance))
        coarse = self.encoder(project(self.features_compressor, features))
        scores = add_into(repeated(coarse, size), fine)
        return reassemble_from(self.start, values, scores, size)
