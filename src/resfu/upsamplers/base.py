"""The contract that every upsampler keeps."""

import operator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.ops.precision import autocast_dtype


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

    Args:
        channels: width of the features; None accepts any.
        guidance_channels: width of the guidance; None where there is none.
        scale_factor: ratio of the output to the features where neither `size` nor a guidance settles it.

    Raises:
        ValueError: for a width or ratio that is not positive.
    """

    guided: ClassVar[bool] = False
    image_guided: ClassVar[bool] = False
    ratios: ClassVar[str] = "any"
    paper: ClassVar[str] = ""

    def __init__(
        self, channels: int | None = None, guidance_channels: int | None = None, scale_factor: int | float | None = None
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("guidance_channels", guidance_channels)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if scale_factor is not None and not scale_factor >= 1:
            raise ValueError(f"scale_factor must be at least 1, got {scale_factor}.")
        self.channels = channels
        self.guidance_channels = guidance_channels
        self.scale_factor = scale_factor

    def forward(self, features: Tensor, guidance: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        """Bring features to high resolution.

        Args:
            features: [B, C, h, w], floating point; the deep, low-resolution map.
            guidance: [B, c, H, W], what steers the upsampling. Ignored by unguided upsamplers, except for its size.
            size: (H, W) of the output. Default: the guidance's, else the features' times `scale_factor`. A guidance of
                another size than this is resampled to it bilinearly first.

        Returns:
            [B, C, H, W] in the features' dtype (under autocast, in autocast's).

        Raises:
            ValueError: for input of the wrong rank, width, batch size or dtype, a missing guidance, or an output
                smaller than the features.
        """
        self._check_features(features)
        if guidance is not None:
            self._check_guidance(guidance, features)
        elif self.guided:
            raise ValueError(f"{type(self).__name__} needs a guidance [B, {self.guidance_channels}, H, W]; got none.")
        size = self._output_size(features, guidance, size)
        self._check_ratio(features, size)
        if features.shape[0] == 0:
            return features.new_empty((0, features.shape[1], *size))
        if not self.guided:
            guidance = None
        elif guidance is not None and tuple(guidance.shape[-2:]) != size:
            guidance = self._resized(guidance, size)
        return self.upsample(features, guidance, size)

    def upsample(self, features: Tensor, guidance: Tensor | None, size: tuple[int, int]) -> Tensor:
        """The method itself, on checked input: [B, C, h, w], [B, c, H, W] -> [B, C, H, W]."""
        raise NotImplementedError(f"{type(self).__name__} does not define upsample().")

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

    def _check_features(self, features: Tensor) -> None:
        check_map("features", features, "[B, C, h, w]", self.channels)

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
            H, W = _pair(size)
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

    def _check_ratio(self, features: Tensor, size: tuple[int, int]) -> None:
        (h, w), (H, W), name = features.shape[-2:], size, type(self).__name__
        if self.ratios == "integer" and (H % h or W % w):
            raise ValueError(
                f"{name} takes integer ratios: features of {h} x {w} give a multiple of {h} x a multiple of {w}, "
                f"not {H} x {W}."
            )
        if self.ratios in ("fixed", "2"):
            ratio = 2 if self.ratios == "2" else int(self.scale_factor or 1)
            if (H, W) != (h * ratio, w * ratio):
                raise ValueError(
                    f"{name} {'was built for' if self.ratios == 'fixed' else 'has'} the ratio {ratio}: "
                    f"features of {h} x {w} give {h * ratio} x {w * ratio}, not {H} x {W}."
                )


def check_map(name: str, tensor: Tensor, layout: str, channels: int | None) -> None:
    """Refuse anything but a floating point map of the given width.

    Raises:
        ValueError: that says what came and what was expected.
    """
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a tensor {layout}, got {type(tensor).__name__}.")
    if tensor.dim() != 4:
        raise ValueError(f"{name} must be {layout}, got {tensor.dim()} dimensions: {list(tensor.shape)}.")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {tensor.dtype}: call .float() first.")
    if tensor.shape[-2] < 1 or tensor.shape[-1] < 1:
        raise ValueError(f"{name} must have at least one pixel, got {list(tensor.shape)}.")
    if channels is not None and tensor.shape[1] != channels:
        raise ValueError(f"{name} must have {channels} channels, got {tensor.shape[1]}: {list(tensor.shape)}.")


def _pair(size: tuple[int, int]) -> tuple[int, int]:
    try:
        # operator.index leaves a symbolic size symbolic under torch.compile, which int() would not.
        H, W = (n if isinstance(n, torch.SymInt) else operator.index(n) for n in size)
    except (TypeError, ValueError):
        raise ValueError(f"size must be (H, W), got {size!r}.") from None
    return H, W  # pyright: ignore[reportReturnType]
