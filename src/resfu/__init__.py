"""resfu: feature upsampling for PyTorch, at any ratio, in one call."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resfu import ops, upsamplers
    from resfu.deploy.checkpointing import checkpointed
    from resfu.deploy.export import export
    from resfu.deploy.fusion import fuse_classifier
    from resfu.deploy.labels import upsample_labels
    from resfu.deploy.refinement import refine
    from resfu.deploy.streaming import stream
    from resfu.frozen import PixelFeatures
    from resfu.hosts import HOSTS, create_host
    from resfu.loading import load
    from resfu.pages import keep_pages
    from resfu.upgrading import find_upsampling, load_upgraded, save_upgraded, upgrade
    from resfu.upsamplers import UPSAMPLERS, create_upsampler
    from resfu.upsamplers.a2u import A2U
    from resfu.upsamplers.anyup import AnyUp
    from resfu.upsamplers.base import Upsampler
    from resfu.upsamplers.carafe import CARAFE
    from resfu.upsamplers.dysample import DySample
    from resfu.upsamplers.fade import FADE
    from resfu.upsamplers.fixed import Bicubic, Bilinear, Deconv, Nearest, PixelShuffle
    from resfu.upsamplers.indexnet import IndexNet
    from resfu.upsamplers.jbu import JBU, StackJBU
    from resfu.upsamplers.naf import NAF
    from resfu.upsamplers.pretrained import from_pretrained
    from resfu.upsamplers.resfu import ReSFU
    from resfu.upsamplers.resfu_image import ReSFUImage
    from resfu.upsamplers.sapa import SAPA

__version__ = "0.2.0"

# The module that defines each public name. A name is imported when it is first used, so that the command line can
# reject a misspelt word without waiting for PyTorch to load.
_MODULES = {
    "A2U": "resfu.upsamplers.a2u",
    "CARAFE": "resfu.upsamplers.carafe",
    "FADE": "resfu.upsamplers.fade",
    "HOSTS": "resfu.hosts",
    "JBU": "resfu.upsamplers.jbu",
    "NAF": "resfu.upsamplers.naf",
    "SAPA": "resfu.upsamplers.sapa",
    "UPSAMPLERS": "resfu.upsamplers",
    "AnyUp": "resfu.upsamplers.anyup",
    "Bicubic": "resfu.upsamplers.fixed",
    "Bilinear": "resfu.upsamplers.fixed",
    "Deconv": "resfu.upsamplers.fixed",
    "DySample": "resfu.upsamplers.dysample",
    "IndexNet": "resfu.upsamplers.indexnet",
    "Nearest": "resfu.upsamplers.fixed",
    "PixelFeatures": "resfu.frozen",
    "PixelShuffle": "resfu.upsamplers.fixed",
    "ReSFU": "resfu.upsamplers.resfu",
    "ReSFUImage": "resfu.upsamplers.resfu_image",
    "StackJBU": "resfu.upsamplers.jbu",
    "Upsampler": "resfu.upsamplers.base",
    "checkpointed": "resfu.deploy.checkpointing",
    "create_host": "resfu.hosts",
    "create_upsampler": "resfu.upsamplers",
    "export": "resfu.deploy.export",
    "find_upsampling": "resfu.upgrading",
    "from_pretrained": "resfu.upsamplers.pretrained",
    "fuse_classifier": "resfu.deploy.fusion",
    "keep_pages": "resfu.pages",
    "load": "resfu.loading",
    "load_upgraded": "resfu.upgrading",
    "refine": "resfu.deploy.refinement",
    "save_upgraded": "resfu.upgrading",
    "stream": "resfu.deploy.streaming",
    "upgrade": "resfu.upgrading",
    "upsample_labels": "resfu.deploy.labels",
}

__all__ = [
    "A2U",
    "CARAFE",
    "FADE",
    "HOSTS",
    "JBU",
    "NAF",
    "SAPA",
    "UPSAMPLERS",
    "AnyUp",
    "Bicubic",
    "Bilinear",
    "Deconv",
    "DySample",
    "IndexNet",
    "Nearest",
    "PixelFeatures",
    "PixelShuffle",
    "ReSFU",
    "ReSFUImage",
    "StackJBU",
    "Upsampler",
    "__version__",
    "checkpointed",
    "create_host",
    "create_upsampler",
    "export",
    "find_upsampling",
    "from_pretrained",
    "fuse_classifier",
    "keep_pages",
    "load",
    "load_upgraded",
    "ops",
    "refine",
    "save_upgraded",
    "stream",
    "upgrade",
    "upsample_labels",
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
