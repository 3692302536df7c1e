"""The contract that every upsampler keeps."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops.checks import check_int, pair
from resfu.ops.empty import connected
from resfu.ops.layout import memory_format
from resfu.ops.precision import autocast_dtype, surrounding_autocast
from resfu.upsamplers.odd_sizes import covering, whole_size
from resfu.upsamplers.options import check_number


class Upsampler(nn.Module):
    """Base of all upsamplers: checks what comes in, settles the output size, calls `upsample`.

    A subclass sets the class attributes, passes its widths to `__init__` and writes
    `upsample(features, guidance, size)`.

    Attributes:
        guided: whether it needs a guidance.
        image_guided: whether that guidance is the image itself rather than a feature map.
        ratios: which ratios of output to features it takes: "any" real one from 1, "integer", "fixed" (those of
            `scale_factor`) or "2".
        paper: where it is published, as an arXiv identifier; "" for textbook methods.
        startable: whether its constructor takes a `start`, with which it first gives what an interpolation gives.

    Args:
        channels: width of the features; None accepts any.
        guidance_channels: width of the guidance; None where there is none.
        scale_factor: ratio of the output to the features where neither `size` nor a guidance settles it.

    Raises:
        ValueError: for a width that is no int from 1, or a ratio that is no number from 1.
    """

    guided: ClassVar[bool] = False
    image_guided: ClassVar[bool] = False
    ratios: ClassVar[str] = "any"
    paper: ClassVar[str] = ""
    startable: ClassVar[bool] = False

    def __init__(
        self, channels: int | None = None, guidance_channels: int | None = None, scale_factor: int | float | None = None
    ) -> None:
        super().__init__()
        if channels is not None:
            check_int("channels", channels)
        if guidance_channels is not None or self.guided:
            check_int("guidance_channels", guidance_channels)
        if scale_factor is not None:
            check_number("scale_factor", scale_factor, least=1)
        self.channels = channels
        self.guidance_channels = guidance_channels
        self.scale_factor = scale_factor

    def forward(self, features: Tensor, guidance: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        """Bring features to high resolution.

        Args:
            features: [B, C, h, w], floating point; the deep, low-resolution map.
            guidance: [B, c, H, W], what steers the upsampling. Ignored by unguided upsamplers, except for its size.
            size: (H, W) of the output. Default: the guidance's, else the features' times `scale_factor`. A guidance of
                another size than this is resampled to it bilinearly first. Where only whole ratios are taken, less than
                one ratio may be missing in either axis: the surplus rows and columns of the whole size are cropped at
                the bottom and right, and the guidance's last row and column are repeated to cover them.

        Returns:
            [B, C, H, W] in the features' dtype, under autocast too.

        Raises:
            ValueError: for input of the wrong rank, width, batch size or dtype, a missing guidance, an output smaller
                than the features, or a ratio that is not taken.
        """
        guidance, size = self._prepared(features, guidance, size)
        if features.shape[0] == 0:
            nothing = features.new_empty((0, features.shape[1], *size))
            return connected(nothing, features, guidance, *self.parameters())
        whole = self._whole_size(features, size)
        with surrounding_autocast(features):
            if whole == size:
                return self.upsample(features, guidance, size).to(features.dtype)
            guidance = guidance if guidance is None else covering(guidance, size, whole)
            out = self.upsample(features, guidance, whole)[..., : size[0], : size[1]]
            return out.to(features.dtype).contiguous(memory_format=memory_format(features))

    def upsample(self, features: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        """The method itself, on checked input: [B, C, h, w], [B, c, H, W] -> [B, C, H, W]."""
        raise NotImplementedError(f"{type(self).__name__} does not define upsample().")

    def _prepared(
        self, features: Tensor, guidance: Tensor | None, size: tuple[int, int] | None
    ) -> tuple[Tensor | None, tuple[int, int]]:
        """Check what `forward` was given: the guidance as `upsample` takes it, and the output's size."""
        check_map("features", features, "[B, C, h, w]", self.channels)
        if guidance is not None:
            self._check_guidance(guidance, features)
        elif self.guided:
            raise ValueError(f"{type(self).__name__} needs a guidance [B, {self.guidance_channels}, H, W]; got none.")
        size = self._output_size(features, guidance, size)
        self._whole_size(features, size)
        if guidance is None or not self.guided:
            return None, size
        return (guidance if tuple(guidance.shape[-2:]) == size else self._resized(guidance, size)), size

    def _resized(self, guidance: Tensor, size: tuple[int, int]) -> Tensor:
        """A guidance of another size than the output's, brought to it."""
        return F.interpolate(guidance, size=size, mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        """What `print(module)` shows of the configuration."""
        known = {
            "channels": self.channels,
            "guidance_channels": self.guidance_channels,
            "scale_factor": self.scale_factor,
        }
        return ", ".join(f"{name}={value}" for name, value in known.items() if value is not None)

    def _check_guidance(self, guidance: Tensor, features: Tensor) -> None:
        check_map("guidance", guidance, "[B, c, H, W]", self.guidance_channels if self.guided else None)
        if guidance.shape[0] != features.shape[0]:
            raise ValueError(
                f"features and guidance must hold the same images, got a batch of {features.shape[0]} "
                f"and of {guidance.shape[0]}."
            )
        if self.guided and guidance.device != features.device:
            raise ValueError(f"features are on {features.device} and guidance on {guidance.device}: move one of them.")
        if self.guided and autocast_dtype(guidance) != autocast_dtype(features):
            raise ValueError(
                f"features are {features.dtype} and guidance is {guidance.dtype}: convert one, or use autocast."
            )

    def _output_size(self, features: Tensor, guidance: Tensor | None, size: tuple[int, int] | None) -> tuple[int, int]:
        h, w = features.shape[-2:]
        if size is not None:
            H, W = pair("size", size)
            source = "size"
        elif guidance is not None:
            H, W = guidance.shape[-2:]
            source = "the guidance"
        elif self.scale_factor is not None:
            ratio = self.scale_factor
            H, W = (h * ratio, w * ratio) if isinstance(ratio, int) else (int(h * ratio), int(w * ratio))
            source = "scale_factor"
        else:
            raise ValueError(f"{type(self).__name__} needs size=(H, W), a guidance or a scale_factor to know its size.")
        if H < h or W < w:
            raise ValueError(
                f"the output must be at least as large as the features ({h} x {w}), but {source} asks for {H} x {W}."
            )
        return H, W

    def _whole_size(self, features: Tensor, size: tuple[int, int]) -> tuple[int, int]:
        """The size that `upsample` runs at for an output of this one, or a ValueError for a ratio it doesn't take."""
        ratio = 2 if self.ratios == "2" else int(self.scale_factor or 1)
        return whole_size(type(self).__name__, self.ratios, ratio, (features.shape[-2], features.shape[-1]), size)


def check_map(name: str, tensor: Tensor, layout: str, channels: int | None) -> None:
    """Refuse anything but a floating point map of the given width.

    Raises:
        ValueError: that says what came and what was expected.
    """
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a tensor {layout}, got {type(tensor).__name__}.")
    if tensor.dim() != 4:
        raise ValueError(f"{name} must be {layout}, got the shape {list(tensor.shape)}.")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {tensor.dtype}: call .float() first.")
    if tensor.shape[-2] < 1 or tensor.shape[-1] < 1:
        raise ValueError(f"{name} must have at least one pixel, got {list(tensor.shape)}.")
    if channels is not None and tensor.shape[1] != channels:
        raise ValueError(f"the channels of {name} must be {channels}, got {tensor.shape[1]}: {list(tensor.shape)}.")
