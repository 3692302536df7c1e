"""PyTorch functions that change the resolution of a map, and the description of one call."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

INTERPOLATIONS = (F.interpolate, F.upsample, F.upsample_nearest, F.upsample_bilinear)
SHUFFLES = (F.pixel_shuffle,)
TRANSPOSED = (F.conv_transpose2d,)
_ANTIALIASED = ", antialiased"
RESAMPLING = (*INTERPOLATIONS, *SHUFFLES, *TRANSPOSED)


@dataclass(frozen=True)
class Call:
    """The description of one call, in a form for JSON.

    Attributes:
        kind: "interpolate", "pixel_shuffle" or "conv_transpose2d".
        mode: of an interpolation, else "".
        align_corners: the argument `align_corners` of an interpolation.
        channels: number of channels of the input.
        out_channels: number of channels of the output.
        low: (h, w) of the input; for volumes all axes.
        size: (H, W) of the output.
    """

    kind: str
    mode: str
    align_corners: bool
    channels: int
    out_channels: int
    low: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def ratio(self) -> tuple[float, ...]:
        """Output pixels per input pixel, along every axis."""
        return tuple(H / h for H, h in zip(self.size, self.low, strict=True))

    @property
    def start(self) -> str:
        """The value of the upsamplers' argument `start` that gives the old result; "" if there is none."""
        if self.kind != "interpolate" or self.mode not in ("nearest", "nearest-exact", "bilinear", "bicubic"):
            return ""
        return self.mode + ("-corners" if self.align_corners else "")

    def to_json(self) -> dict[str, Any]:
        """Convert to a dictionary."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Call":
        """Read the dictionary of `to_json`."""
        return Call(**{**content, "low": tuple(content["low"]), "size": tuple(content["size"])})


def input_of(args: tuple, kwargs: dict[str, Any]) -> Any:
    """The map that a call resamples."""
    return args[0] if args else kwargs.get("input")


def asked_mode(func: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[str, bool]:
    """The mode of an interpolation, and whether corners are aligned."""
    if func is F.upsample_nearest:
        return "nearest", False
    if func is F.upsample_bilinear:
        return "bilinear", True
    mode = kwargs.get("mode", args[3] if len(args) > 3 else "nearest")
    corners = bool(kwargs.get("align_corners", args[4] if len(args) > 4 else None))
    # Antialiasing also changes upsampling: another cubic kernel, and other positions between aligned corners.
    if kwargs.get("antialias", args[6] if len(args) > 6 else False) and (mode == "bicubic" or corners):
        mode += _ANTIALIASED
    return mode, corners


def described(func: Any, args: tuple, kwargs: dict[str, Any], output: Tensor) -> Call:
    """Describe the call of a resampling function that returned `output`."""
    x = input_of(args, kwargs)
    mode, corners, kind = "", False, "interpolate"
    if func in INTERPOLATIONS:
        mode, corners = asked_mode(func, args, kwargs)
    else:
        kind = "pixel_shuffle" if func in SHUFFLES else "conv_transpose2d"
    return Call(kind, mode, corners, x.shape[1], output.shape[1], tuple(x.shape[2:]), tuple(output.shape[2:]))


def changes_resolution(func: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call is reported: any interpolation or pixel shuffle, and transposed convolutions with a stride."""
    if func not in RESAMPLING or not isinstance(input_of(args, kwargs), torch.Tensor):
        return False
    if func not in TRANSPOSED:
        return True
    stride = kwargs.get("stride", args[3] if len(args) > 3 else 1)
    return max(stride) > 1 if isinstance(stride, tuple | list) else stride > 1
