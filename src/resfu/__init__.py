"""resfu: feature upsampling for PyTorch, at any ratio, in one call."""

from resfu import ops, upsamplers
from resfu.hosts import HOSTS, create_host
from resfu.upsamplers import UPSAMPLERS, create_upsampler
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.fixed import Bilinear, Nearest
from resfu.upsamplers.resfu import ReSFU

__version__ = "0.1.0"

__all__ = [
    "HOSTS",
    "UPSAMPLERS",
    "Bilinear",
    "Nearest",
    "ReSFU",
    "Upsampler",
    "__version__",
    "create_host",
    "create_upsampler",
    "ops",
    "upsamplers",
]
