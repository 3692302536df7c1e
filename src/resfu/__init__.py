"""resfu: feature upsampling for PyTorch, at any ratio, in one call."""

from resfu import ops, upsamplers
from resfu.hosts import HOSTS, create_host
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
    "ops",
    "upsamplers",
]
