"""Joint bilateral upsampling with learned kernels: one module, and the stack of them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops import correlate, which_backend, window_softmax
from resfu.ops.backends import operators_are_recorded
from resfu.ops.checks import check_int
from resfu.ops.layout import channels_last, memory_format
from resfu.ops.pooling import adaptive_average
from resfu.ops.precision import at_least_fp32, autocast_dtype
from resfu.ops.reassembly.enlargement import enlarged_sum
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.options import check_whole
from resfu.upsamplers.plain import is_plain, is_plain_convolution
from resfu.upsamplers.projection import project

FIXUP = 0.1


class JBU(Upsampler):
    """Joint bilateral filter of bicubically upsampled features, guided by the image (arXiv 2403.10516, FeatUp module).

    The kernel of a pixel has two factors: the softmax over a window of the inner products of the projected guidance
    (times a learned temperature), and a Gaussian of the distance, with a learned deviation. It is normalised to sum 1.
    Then 0.1 times a correction is added, which a small network predicts from the kernel and the guidance. With the
    correction, weights may be negative and need not sum to 1, so constants do not stay constant.

    Windows are counted in pixels of the output and mirror the border, so the output needs more than `radius` rows and
    columns. Any real ratio. Convolutions have torch's initialisation.

    Args:
        guidance_channels: g, width of the guidance; the published module takes the normalised image.
        key_dim: width of the projected guidance.
        radius: of the window, which is 2 radius + 1 pixels wide.

    Raises:
        ValueError: for a width or radius below 1, or, when called, an output not larger than the radius.

    >>> up = resfu.JBU()
    >>> up(torch.randn(1, 64, 16, 16), torch.randn(1, 3, 32, 32)).shape
    torch.Size([1, 64, 32, 32])
    """

    guided = True
    image_guided = True
    paper = "2403.10516"
    compiled = True

    def __init__(self, guidance_channels: int = 3, key_dim: int = 32, radius: int = 3) -> None:
        super().__init__(guidance_channels=guidance_channels)
        check_int("key_dim", key_dim)
        check_int("radius", radius)
        self.radius = radius
        window = (2 * radius + 1) ** 2
        self.log_temperature = nn.Parameter(torch.tensor(0.0))
        self.deviation = nn.Parameter(torch.tensor(1.0))
        self.range_projection = TwoLayers(guidance_channels, key_dim)
        self.kernel_fixup = TwoLayers(guidance_channels + window, window)

    def upsample(
        self,
        features: Float[Tensor, "B C h w"],
        guidance: Tensor | None,
        size: tuple[int, int],
        bias: Tensor | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Interpolate, filter each pixel with its own kernel, and add `bias` [C] if it is given."""
        assert guidance is not None
        if min(size) <= self.radius:
            raise ValueError(
                f"{type(self).__name__} mirrors {self.radius} pixels at the border: the output must be larger than "
                f"{self.radius} x {self.radius}, got {size[0]} x {size[1]}."
            )
        return enlarged_sum(features, self._kernel(guidance), bias)

    def _kernel(self, guidance: Float[Tensor, "B g H W"]) -> Float[Tensor, "B KK H W"]:
        if _without_graph(guidance, *self.parameters()):
            from resfu.ops.reassembly import numba_likeness

            if numba_likeness.takes(guidance.shape[-1], self.radius):
                keys, window = self.range_projection(guidance), (2 * self.radius + 1) ** 2
                both = guidance.new_empty((len(guidance), window + guidance.shape[1], *guidance.shape[2:]))
                numba_likeness.range_kernel(keys, self._temperature(), self._nearness(), both)
                both[:, window:] = guidance
                return torch.add(both[:, :window], self.kernel_fixup(both), alpha=FIXUP)
        if which_backend(guidance) != "numba":
            guidance = channels_last(guidance)  # the kernel then is channels-last too, which is fast to reassemble with
        keys = at_least_fp32(self.range_projection(guidance))
        likeness = window_softmax(self._temperature() * correlate(keys, keys, 2 * self.radius + 1, "dense", "reflect"))
        kernel = likeness * self._nearness()
        kernel = kernel / kernel.sum(1, keepdim=True).clamp(min=1e-7)
        return kernel + FIXUP * self.kernel_fixup(torch.cat([kernel.to(guidance.dtype), guidance], 1))

    def _temperature(self) -> Float[Tensor, ""]:
        return at_least_fp32(self.log_temperature).exp().clamp(1e-4, 1e4)

    def _nearness(self) -> Float[Tensor, "1 KK 1 1"]:
        """Gaussian of the distance from the centre, in coordinates where the window's corners lie at (+-1, +-1).

        As in the published code it stays an fp32 tensor even if the rest is fp64: the deviation is a scalar tensor,
        which does not promote the dtype.
        """
        deviation = at_least_fp32(self.deviation)
        axis = torch.linspace(-1, 1, 2 * self.radius + 1, device=deviation.device, dtype=torch.float32).square()
        distance = (axis[:, None] + axis).view(1, -1, 1, 1)
        return (-distance / (2 * deviation.square())).exp()


class StackJBU(Upsampler):
    """Steps of joint bilateral upsampling by 2, guided by the image (FeatUp's stack, arXiv 2403.10516).

    Every step has a JBU of its own, guided by the image average-pooled to that step's output. At the end a 1 x 1
    convolution corrects the result z: z + 0.1 conv(dropout(z)). In training, dropout of whole channels (0.1 in the
    networks that compute the kernels, 0.2 at the end) makes results noisy by design. The first step's output must be
    larger than 3 pixels in both directions.

    Args:
        channels: C, width of the features.
        guidance_channels: g, width of the guidance, which must be at least as large as the output.
        steps: number of modules; the ratio is 2^steps. Default: the number that `scale_factor` needs, else 2.
        scale_factor: the ratio, a power of two from 2; may be given in place of `steps`.

    Raises:
        ValueError: for fewer than one step, a ratio that is not a power of two or not 2^steps or, when called, a
            guidance smaller than the output.

    >>> up = resfu.StackJBU(64, scale_factor=2)
    >>> up(torch.randn(1, 64, 16, 16), torch.randn(1, 3, 32, 32)).shape
    torch.Size([1, 64, 32, 32])
    """

    guided = True
    image_guided = True
    ratios = "fixed"
    paper = "2403.10516"
    compiled = True

    def __init__(
        self, channels: int, guidance_channels: int = 3, steps: int | None = None, scale_factor: int | None = None
    ) -> None:
        if steps is not None:
            check_int("steps", steps)
        if scale_factor is not None:
            doublings = check_whole("scale_factor", scale_factor).bit_length() - 1
            if doublings < 1 or scale_factor != 2**doublings:
                raise ValueError(f"scale_factor must be a power of two from 2, got {scale_factor}.")
            if steps not in (None, doublings):
                raise ValueError(f"scale_factor = {scale_factor} is not 2^steps with steps = {steps}: leave one out.")
            steps = doublings
        steps = 2 if steps is None else steps
        super().__init__(channels, guidance_channels, scale_factor=2**steps)
        self.ratio = 2**steps
        self.stages = nn.ModuleDict({str(n): JBU(guidance_channels) for n in range(1, steps + 1)})
        self.dropout = nn.Dropout2d(0.2)
        self.fixup = nn.Conv2d(channels, channels, 1)

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Double the resolution step by step, then correct."""
        assert guidance is not None
        folds = self._folds(features, guidance)
        if folds:  # All channels have the same weights, so the correction, which mixes channels, can come first.
            weight = self.fixup.weight.flatten(1)
            weight = torch.eye(len(weight), dtype=weight.dtype, device=weight.device) + FIXUP * weight
            features = (weight @ features.flatten(2)).unflatten(2, features.shape[2:])
        for n, stage in enumerate(self.stages.values(), 1):
            doubled = (2 * features.shape[-2], 2 * features.shape[-1])
            image = adaptive_average(guidance, doubled)
            if folds and n == len(self.stages):
                assert isinstance(stage, JBU)
                assert self.fixup.bias is not None
                return stage.upsample(features, image, doubled, FIXUP * self.fixup.bias)
            features = stage(features, image)
        return features.add(self.fixup(self.dropout(features)).to(features.dtype), alpha=FIXUP)

    def _folds(self, features: Tensor, guidance: Tensor) -> bool:
        """Whether the final correction may be applied before the first step.

        It may if dropout is off, the convolution is plain, and nothing (a hook, a tracing mode) observes what lies
        between.
        """
        fixup, dropout = self.fixup, self.dropout
        if not is_plain_convolution(fixup) or fixup.groups > 1 or fixup.bias is None:
            return False
        if dropout.training or not is_plain(dropout, nn.Dropout2d):
            return False
        if not all(is_plain(stage, JBU) for stage in self.stages.values()):
            return False
        exact = autocast_dtype(features) == features.dtype == fixup.weight.dtype != torch.float16
        if not exact or features.dtype == torch.bfloat16 or memory_format(features) == torch.channels_last:
            return False
        return not operators_are_recorded(features, guidance, *self.parameters())

    def _output_size(self, features: Tensor, guidance: Tensor | None, size: tuple[int, int] | None) -> tuple[int, int]:
        if size is None:
            H, W = features.shape[-2] * self.ratio, features.shape[-1] * self.ratio
        else:
            H, W = super()._output_size(features, guidance, size)
        if guidance is not None and (guidance.shape[-2] < H or guidance.shape[-1] < W):
            raise ValueError(
                f"the guidance must be at least as large as the output ({H} x {W}), got {guidance.shape[-2]} x "
                f"{guidance.shape[-1]}. Give size=(H, W) for an output that lacks some of the last rows and columns."
            )
        return H, W

    def _resized(self, guidance: Tensor, size: tuple[int, int]) -> Tensor:
        return guidance


def _without_graph(guidance: Tensor, *parameters: Tensor) -> bool:
    """Whether Numba's kernels may do the work: in fp32, with no graph recorded or captured."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in (guidance, *parameters)):
        return False
    return (
        which_backend(guidance) == "numba"
        and autocast_dtype(guidance) == torch.float32
        and all(t.dtype == torch.float32 for t in parameters)
        and not operators_are_recorded(*parameters)
    )


class TwoLayers(nn.Sequential):
    """1 x 1 convolution, GELU, dropout, 1 x 1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 1),
            nn.GELU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(out_channels, out_channels, 1),
        )

    def forward(self, input: Float[Tensor, "B c H W"]) -> Float[Tensor, "B d H W"]:
        """Apply all layers, the convolutions as products of matrices."""
        planar = which_backend(input) == "numba"
        for layer in self:
            input = project(layer, input, planar=planar)  # `project` calls GELU and dropout as they are
        return input
