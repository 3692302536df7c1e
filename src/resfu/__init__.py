"""resfu: feature upsampling for PyTorch, at any ratio, in one call."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resfu import ops, upsamplers
    from resfu.deploy.export import export
    from resfu.hosts import HOSTS, create_host
    from resfu.loading import load
    from resfu.upsamplers import UPSAMPLERS, create_upsampler
    from resfu.upsamplers.a2u import A2U
    from resfu.upsamplers.base import Upsampler
    from resfu.upsamplers.carafe import CARAFE
    from resfu.upsamplers.dysample import DySample
    from resfu.upsamplers.fade import FADE
    from resfu.upsamplers.fixed import Bicubic, Bilinear, Deconv, Nearest, PixelShuffle
    from resfu.upsamplers.indexnet import IndexNet
    from resfu.upsamplers.jbu import JBU, StackJBU
    from resfu.upsamplers.resfu import ReSFU
    from resfu.upsamplers.sapa import SAPA

__version__ = "0.1.0"

# Where each public name is defined. They are imported when they are first used, so that the command line can refuse a
# misspelt word without waiting for PyTorch.
_MODULES = {
    "A2U": "resfu.upsamplers.a2u",
    "CARAFE": "resfu.upsamplers.carafe",
    "FADE": "resfu.upsamplers.fade",
    "HOSTS": "resfu.hosts",
    "JBU": "resfu.upsamplers.jbu",
    "SAPA": "resfu.upsamplers.sapa",
    "UPSAMPLERS": "resfu.upsamplers",
    "Bicubic": "resfu.upsamplers.fixed",
    "Bilinear": "resfu.upsamplers.fixed",
    "Deconv": "resfu.upsamplers.fixed",
    "DySample": "resfu.upsamplers.dysample",
    "IndexNet": "resfu.upsamplers.indexnet",
    "Nearest": "resfu.upsamplers.fixed",
    "PixelShuffle": "resfu.upsamplers.fixed",
    "ReSFU": "resfu.upsamplers.resfu",
    "StackJBU": "resfu.upsamplers.jbu",
    "Upsampler": "resfu.upsamplers.base",
    "create_host": "resfu.hosts",
    "create_upsampler": "resfu.upsamplers",
    "export": "resfu.deploy.export",
    "load": "resfu.loading",
}

__all__ = [
    "A2U",
    "CARAFE",
    "FADE",
    "HOSTS",
    "JBU",
    "SAPA",
    "UPSAMPLERS",
    "Bicubic",
    "Bilinear",
    "Deconv",
    "DySample",
    "IndexNet",
    "Nearest",
    "PixelShuffle",
    "ReSFU",
    "StackJBU",
    "Upsampler",
    "__version__",
    "create_host",
    "create_upsampler",
    "export",
    "load",
    "ops",
    "upsamplers",
]


def __getattr__(name: str) -> Any:
    if name in ("ops", "upsamplers"):
        return importlib.import_module(f"resfu.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'resfu' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
