"""IndexNet: the holistic index block."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.normalization import BatchNorm2d
from resfu.upsamplers.options import check_flags


class IndexNet(Upsampler):
    """Nearest upsampling by 2, gated at every pixel by what the guidance predicts (arXiv 1908.00672, holistic index).

    A convolution of stride 2 brings the guidance to the features' resolution, and 4 channels are computed from it.
    Their sigmoid, interleaved to the output's resolution, is one gate for each pixel, shared by all channels. Gates lie
    in (0, 1), about 0.5 at first, so a constant does not stay constant. Convolutions have no bias and torch's
    initialisation. The normalisation is BatchNorm; in eval mode its running statistics keep the images of a batch
    independent.

    A state dict without BatchNorm's running statistics can be loaded too; they then keep their values.

    Args:
        channels: C, width of the features.
        guidance_channels: c, width of the guidance.
        nonlinear: use a convolution to 2 c channels, BatchNorm, ReLU6 and a 1 x 1 convolution. If False, use a single
            convolution.
        context: use a 4 x 4 kernel, zero-padded by 1, instead of 2 x 2.

    >>> up = resfu.IndexNet(64, 32)
    >>> up(torch.randn(1, 64, 16, 16), torch.randn(1, 32, 32, 32)).shape
    torch.Size([1, 64, 32, 32])
    """

    guided = True
    ratios = "2"
    paper = "1908.00672"

    def __init__(self, channels: int, guidance_channels: int, nonlinear: bool = True, context: bool = True) -> None:
        super().__init__(channels, guidance_channels, scale_factor=2)
        check_flags(nonlinear=nonlinear, context=context)
        self.nonlinear = nonlinear
        kernel_size, padding = (4, 1) if context else (2, 0)
        width = 2 * guidance_channels if nonlinear else 4
        self.encoder = nn.Conv2d(guidance_channels, width, kernel_size, stride=2, padding=padding, bias=False)
        if nonlinear:
            self.norm = BatchNorm2d(width)
            self.index = nn.Conv2d(width, 4, 1, bias=False)

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Repeat the features (nearest neighbour) and multiply them by the gates."""
        assert guidance is not None
        index = self.encoder(guidance)
        if self.nonlinear:
            index = self.index(F.relu6(self.norm(index)))
        gate = F.pixel_shuffle(index.sigmoid(), 2)
        return F.interpolate(features, size=size, mode="nearest") * gate.to(features.dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **options: Any) -> None:
        statistics = {prefix + name: buffer for name, buffer in self.named_buffers()}
        if not any(name in state_dict for name in statistics):
            state_dict.update(statistics)
        super()._load_from_state_dict(state_dict, prefix, *args, **options)
