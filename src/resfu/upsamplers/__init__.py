"""The upsampling methods, one module each, and `create_upsampler`, which builds any of them by name."""

import inspect
from typing import Any

from resfu.upsamplers import official
from resfu.upsamplers.a2u import A2U
from resfu.upsamplers.anyup import AnyUp
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.carafe import CARAFE
from resfu.upsamplers.dysample import DySample
from resfu.upsamplers.fade import FADE
from resfu.upsamplers.fixed import Bicubic, Bilinear, Deconv, Nearest, PixelShuffle
from resfu.upsamplers.indexnet import IndexNet
from resfu.upsamplers.iterative import Iterative
from resfu.upsamplers.jbu import StackJBU
from resfu.upsamplers.naf import NAF
from resfu.upsamplers.resfu import ReSFU
from resfu.upsamplers.resfu_image import ReSFUImage
from resfu.upsamplers.sapa import SAPA

UPSAMPLERS: dict[str, type[Upsampler]] = {
    "nearest": Nearest,
    "bilinear": Bilinear,
    "bicubic": Bicubic,
    "deconv": Deconv,
    "pixelshuffle": PixelShuffle,
    "stack-jbu": StackJBU,
    "carafe": CARAFE,
    "indexnet": IndexNet,
    "fade": FADE,
    "sapa": SAPA,
    "dysample": DySample,
    "a2u": A2U,
    "resfu": ReSFU,
    "resfu-image": ReSFUImage,
    "naf": NAF,
    "anyup": AnyUp,
}

# Options that callers may pass for every method. They are not passed on to a method that has no use for them.
_COMMON = ("channels", "guidance_channels", "scale_factor")


def create_upsampler(name: str, **options: Any) -> Upsampler:
    """Build an upsampler by name.

    Args:
        name: a key of `UPSAMPLERS`.
        **options: the constructor's arguments. `channels`, `guidance_channels` and `scale_factor` may always be given;
            a method that has no use for one of them ignores it. A method that only upsamples by 2 refuses any other
            ratio.

    Returns:
        The upsampler, with its published initialisation.

    Raises:
        ValueError: for an unknown name or option (the message lists the known ones), a missing option, or a value or
            ratio that the method does not take.

    >>> up = resfu.create_upsampler("resfu", channels=64, guidance_channels=32)
    >>> up(torch.randn(1, 64, 16, 16), torch.randn(1, 32, 32, 32)).shape
    torch.Size([1, 64, 32, 32])
    """
    if name not in UPSAMPLERS:
        raise ValueError(f"unknown upsampler {name!r}; choose one of {', '.join(UPSAMPLERS)}.")
    method = UPSAMPLERS[name]
    parameters = inspect.signature(method).parameters
    accepted = list(parameters)
    unknown = [o for o in options if o not in accepted and o not in _COMMON]
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it takes {', '.join(accepted)}.")
    ratio = options.get("scale_factor")
    if method.ratios == "2" and ratio not in (None, 2):
        raise ValueError(
            f"{name} has the ratio 2 alone, got scale_factor = {ratio!r}: chain steps with resfu.upsamplers.Iterative."
        )
    missing = [p for p in accepted if parameters[p].default is inspect.Parameter.empty and options.get(p) is None]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}.")
    return method(**{key: value for key, value in options.items() if key in accepted})


__all__ = ["UPSAMPLERS", "Iterative", "Upsampler", "create_upsampler", "official"]
