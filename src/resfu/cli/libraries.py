"""Makes networks of other libraries, with random weights, from one word: LIBRARY:NAME or package.module:factory."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from torch import nn

from resfu.files.libraries import own_module

# What MONAI's two-dimensional networks need beside the numbers of channels.
_MONAI = {
    "UNet": {"channels": (16, 32, 64, 128, 256), "strides": (2, 2, 2, 2)},
    "DynUNet": {"kernel_size": [3, 3, 3, 3], "strides": [1, 2, 2, 2], "upsample_kernel_size": [2, 2, 2]},
}


def build_network(word: str) -> nn.Module:
    """Make a network.

    Args:
        word: "torchvision:deeplabv3_resnet50", "transformers:" with a class or a folder that has a config.json,
            "timm:resnet18", "smp:Unet" or "smp:Unet:resnet18", "monai:SegResNet", or "my_package.module:factory" for a
            function without arguments that returns a network.

    Raises:
        ValueError: for a word of another form, a name that the library does not have, or a network that fails.
    """
    library, colon, name = word.partition(":")
    if not colon or not name:
        raise ValueError(
            f"expected LIBRARY:NAME (of {', '.join(_LIBRARIES)}) or package.module:factory, got {word!r}, as in "
            "torchvision:deeplabv3_resnet50."
        )
    try:
        network = _LIBRARIES[library](name) if library in _LIBRARIES else _made_by(library, name)
    except (ValueError, OSError, ImportError):
        raise
    except Exception as error:  # whatever the code of others raises
        what = " ".join(str(error).split())
        raise ValueError(
            f"{word} could not be created: {type(error).__name__}: {what[:300]} (RESFU_DEBUG=1 shows where)."
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{word} gave a {type(network).__name__}, no torch.nn.Module.")
    return network.eval()


def _torchvision(name: str) -> nn.Module:
    from torchvision.models import get_model, get_model_builder

    if name in dir(importlib.import_module("torchvision.models.detection")):
        return get_model(name, weights=None, weights_backbone=None)
    takes = inspect.signature(get_model_builder(name)).parameters
    return get_model(name, weights=None, **({"weights_backbone": None} if "weights_backbone" in takes else {}))


def _transformers(name: str) -> nn.Module:
    import transformers

    if Path(name).exists():
        config = transformers.AutoConfig.from_pretrained(name)
        names = config.architectures or []
        if not names:
            raise ValueError(f"{name} does not say which network it configures: its architectures are empty.")
        return getattr(transformers, names[0])(config)
    kind: Any = _of(transformers, name, "transformers")
    return kind(kind.config_class())


def _timm(name: str) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}; `timm.list_models()` lists them.")
    return timm.create_model(name, pretrained=False)


def _smp(name: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    kind, _, encoder = name.partition(":")
    return _of(smp, kind, "segmentation_models_pytorch")(encoder or "resnet34", encoder_weights=None)


def _monai(name: str) -> nn.Module:
    from monai.networks import nets

    kind = _of(nets, name, "monai.networks.nets")
    return kind(spatial_dims=2, in_channels=3, out_channels=2, **_MONAI.get(name, {}))


def _made_by(module: str, factory: str) -> nn.Module:
    try:
        found = own_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != module.split(".")[0]:
            raise
        raise ValueError(
            f"there is no module {module!r}, neither installed nor in the current folder, and no such library; "
            f"known are {', '.join(_LIBRARIES)}."
        ) from error
    return _of(found, factory, module)()


def _of(module: object, name: str, where: str) -> Callable[..., nn.Module]:
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"{where} has no {name!r}.")
    return cast("Callable[..., nn.Module]", found)


_LIBRARIES: dict[str, Callable[[str], nn.Module]] = {
    "torchvision": _torchvision,
    "transformers": _transformers,
    "timm": _timm,
    "smp": _smp,
    "monai": _monai,
}
