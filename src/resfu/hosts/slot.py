"""The place in a network where an upsampler sits."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from resfu.upsamplers import create_upsampler

_GIVEN_BY_THE_NETWORK = ("channels", "guidance_channels", "scale_factor")


class Slot(nn.Module):
    """One upsampler that goes straight to the target size.

    Args:
        upsampler: a key of `resfu.UPSAMPLERS`.
        channels: width of the features.
        guidance_channels: width of the guides.
        scale_factor: ratio of the target to the features where both are exact multiples of the stride.
        options: further constructor arguments of the upsampler.

    Raises:
        ValueError: for an unknown upsampler or option, or one that the network itself sets.
    """

    def __init__(
        self,
        upsampler: str,
        channels: int,
        guidance_channels: int,
        scale_factor: int,
        options: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        options = dict(options or {})
        taken = [name for name in _GIVEN_BY_THE_NETWORK if name in options]
        if taken:
            raise ValueError(f"upsampler_options must not hold {', '.join(taken)}: the network sets it by itself.")
        self.upsampler = create_upsampler(
            upsampler, channels=channels, guidance_channels=guidance_channels, scale_factor=scale_factor, **options
        )

    def forward(self, features: Tensor, guides: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Bring features to the target size.

        Args:
            features: [B, C, h, w].
            guides: maps [B, c, H, W] between the features' resolution and the target's, from coarse to fine. The last
                one, at the target's resolution, guides. Unguided upsamplers need none.
            size: (H, W) of the target.

        Returns:
            [B, C, H, W].
        """
        return self.upsampler(features, guides[-1] if self.upsampler.guided else None, size=size)
