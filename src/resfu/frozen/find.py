"""Find an encoder by a name, a folder, a module or a function."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from resfu.frozen.encoder import FrozenEncoder
from resfu.frozen.transformers_encoder import load_transformers, of_transformers
from resfu.ops.checks import check_int

_STRIDE = 16  # of an EfficientNet-Lite
Encoder = str | os.PathLike[str] | nn.Module | Callable[..., Any]


def find_encoder(
    encoder: Encoder, stride: int | None = None, prefix: int | None = None, pretrained: bool = True
) -> FrozenEncoder:
    """Create a `FrozenEncoder` from a name, a folder, a module or a function.

    Args:
        encoder: "efficientnet-lite0", "-lite1" or "-lite2" (weights from their packages); the name of a timm model, or
            "timm:NAME"; "torchvision:NAME"; "transformers:NAME" or a folder that transformers wrote; a module of one of
            these three packages; or any other module or callable from images [B, 3, H, W], with ImageNet's
            normalisation, to features.
        stride: pixels per patch, or per pixel of the deepest map, if the encoder does not define it.
        prefix: number of tokens before those of the patches, if the encoder does not define it.
        pretrained: load the weights of a network given by name; False: random weights.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(encoder, FrozenEncoder):
        if stride is not None or prefix is not None:
            raise ValueError("a FrozenEncoder has its own stride and prefix: give them to its constructor.")
        return encoder
    if isinstance(encoder, nn.Module):
        found = _of_module(encoder)
    elif isinstance(encoder, str | os.PathLike):
        found = _by_name(os.fspath(encoder), pretrained)
    elif callable(encoder):
        found = FrozenEncoder(encoder)
    else:
        raise ValueError(f"an encoder is a name, a folder, a module or a callable, got {type(encoder).__name__}.")
    if stride is not None:
        check_int("stride", stride)
    if prefix is not None:
        check_int("prefix", prefix, least=0)
    found.stride = found.stride if stride is None else stride
    found.prefix = found.prefix if prefix is None else prefix
    return found


def _by_name(name: str, pretrained: bool) -> FrozenEncoder:
    source, _, rest = name.partition(":")
    if name.startswith("efficientnet-lite"):
        return _embedded(name, pretrained)
    if source == "transformers" or Path(name).expanduser().is_dir():
        model = load_transformers(rest if source == "transformers" else name, pretrained)
        return _of_transformers(model, name)
    if source == "torchvision":
        import torchvision

        if rest not in torchvision.models.list_models():
            raise ValueError(f"torchvision has no model {rest!r}; torchvision.models.list_models() lists them.")
        return _of_torchvision(torchvision.models.get_model(rest, weights="DEFAULT" if pretrained else None), name)
    import timm

    rest = rest if source == "timm" else name
    if rest.partition(".")[0] not in timm.list_models():
        raise ValueError(
            f"unknown encoder {name!r}: neither efficientnet-lite0, 1 or 2, nor a timm model (timm.list_models() lists "
            "them), nor torchvision:NAME, transformers:NAME or a folder."
        )
    ways: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for options in ways:  # use the first options that the model supports
        try:
            model = timm.create_model(rest, pretrained=pretrained, num_classes=0, **options)
        except TypeError:
            continue
        return _of_timm(model, f"timm:{rest}")
    raise ValueError(f"timm could not create {rest}.")


def _embedded(name: str, pretrained: bool) -> FrozenEncoder:
    from resfu.hosts.efficientnet import MEAN, STD, EfficientNetLite

    network = EfficientNetLite(_STRIDE, name)
    network.load(pretrained)
    return FrozenEncoder(network, f"{name}:{'imagenet' if pretrained else ''}", MEAN, STD, stride=_STRIDE)


def _of_module(module: nn.Module) -> FrozenEncoder:
    package = type(module).__module__.partition(".")[0]
    if package == "timm":
        return _of_timm(module)
    if package == "transformers":
        return _of_transformers(module)
    return _of_torchvision(module) if package == "torchvision" else FrozenEncoder(module)


def _of_transformers(model: Any, name: str = "") -> FrozenEncoder:
    inner = getattr(model, "timm_model", None)
    return of_transformers(model, name) if inner is None else _of_timm(inner, name)


def _of_timm(model: Any, name: str = "") -> FrozenEncoder:
    from timm.data import resolve_model_data_config
    from timm.layers import PatchEmbed

    config = resolve_model_data_config(model)
    embed: Any = getattr(model, "patch_embed", None)
    patch: Any = embed.patch_size if type(embed) is PatchEmbed else None
    size: Any = embed.img_size if getattr(embed, "strict_img_size", False) else None
    tokens = getattr(model, "num_prefix_tokens", None)
    return FrozenEncoder(
        model,
        name,
        config["mean"],
        config["std"],
        stride=patch[0] if tokens is not None and patch else None,
        prefix=tokens,
        size=size,
        call=model.forward_features,
    )


def _of_torchvision(model: Any, name: str = "") -> FrozenEncoder:
    if hasattr(model, "conv_proj"):  # the vision transformer; its position embedding has a fixed size
        size = (model.image_size, model.image_size)
        return FrozenEncoder(
            model, name, stride=model.patch_size, prefix=1, size=size, call=lambda x: _vit_tokens(model, x)
        )
    if hasattr(model, "features"):
        return FrozenEncoder(model, name, call=model.features)
    if type(model).__module__.startswith("torchvision.models.segmentation"):
        return FrozenEncoder(model.backbone, name)
    layers = nn.Sequential(*[part for key, part in model.named_children() if key not in ("avgpool", "fc")])
    return FrozenEncoder(layers, name)


def _vit_tokens(model: Any, x: Any) -> Any:
    import torch

    x = model._process_input(x)
    return model.encoder(torch.cat([model.class_token.expand(len(x), -1, -1), x], 1))
