"""ReSFU guided by the image itself."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from resfu.ops.checks import check_int
from resfu.ops.layout import pad
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.normalization import GroupNorm
from resfu.upsamplers.resfu import ReSFU
from resfu.upsamplers.starts import PUBLISHED


class ReSFUImage(Upsampler):
    """ReSFU guided by the image alone, for example for the features of a frozen encoder (arXiv 2407.02283).

    Two 3 x 3 convolutions at the output's resolution compute a guidance from the image; ReSFU does the rest. This is
    the design of the paper's Segmenter, without its stride. It takes any real ratio, and constants stay constant. The
    key's projection depends on the number of channels of the features, so weights fit only this number.

    Args:
        channels: C, width of the features.
        guidance_channels: channels of the image. An image of another size than the output is resampled to it.
        guide_channels: width of the guidance that is computed from the image.
        guide_hidden_channels: width between the two convolutions.
        kernel_size: see `ReSFU`, as for all following arguments.
        projection_dim: width of query and key.
        groups: of the convolutions that compare query and key.
        hidden_channels: width inside the comparison.
        backend: of the operations.
        start: see `ReSFU`.

    Raises:
        ValueError: for a width below 1, or what `ReSFU` refuses.

    >>> up = resfu.ReSFUImage(384)
    >>> up(torch.zeros(1, 384, 16, 16), torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 384, 64, 64])
    """

    guided = True
    image_guided = True
    paper = "2407.02283"
    compiled = True
    startable = True

    def __init__(
        self,
        channels: int,
        guidance_channels: int = 3,
        guide_channels: int = 32,
        guide_hidden_channels: int = 16,
        kernel_size: int = 3,
        projection_dim: int = 32,
        groups: int = 4,
        hidden_channels: int = 128,
        backend: str = "auto",
        start: str = PUBLISHED,
    ) -> None:
        super().__init__(channels, guidance_channels)
        check_int("guide_channels", guide_channels)
        check_int("guide_hidden_channels", guide_hidden_channels)
        self.conv1 = nn.Conv2d(guidance_channels, guide_hidden_channels, 3)
        self.norm = GroupNorm(1, guide_hidden_channels)
        self.conv2 = nn.Conv2d(guide_hidden_channels, guide_channels, 3)
        self.resfu = ReSFU(
            channels,
            guide_channels,
            kernel_size,
            projection_dim,
            groups,
            hidden_channels,
            backend=backend,
            start=start,
        )
        self.start = start

    def upsample(
        self, features: Float[Tensor, "B C h w"], guidance: Tensor | None, size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Compute the guidance, then weigh each pixel's neighbours."""
        assert guidance is not None
        return self.resfu.upsample(features, self.guide(guidance), size)

    def guide(self, image: Float[Tensor, "B c H W"]) -> Float[Tensor, "B g H W"]:
        """The guidance of ReSFU, computed from the image."""
        x = F.relu(self.norm(self.conv1(pad(image, 1, 1))))
        return self.conv2(pad(x, 1, 1))
