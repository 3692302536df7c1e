"""Segmentation networks with a place for an upsampler; nothing heavy is imported before one is built."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from resfu.hosts.base import SegmentationHost


def _build(module: str, host: str, **options: object) -> SegmentationHost:
    return getattr(importlib.import_module(f"resfu.hosts.{module}"), host)(**options)


HOSTS: dict[str, Callable[..., SegmentationHost]] = {
    **{f"segformer-mit-b{i}": partial(_build, "segformer", "SegFormer", variant=f"b{i}") for i in range(6)},
    "pspnet-resnet50": partial(_build, "pspnet", "PSPNet", depth=50),
    "pspnet-resnet101": partial(_build, "pspnet", "PSPNet", depth=101),
    "segmenter-vit-s": partial(_build, "segmenter", "Segmenter", variant="s"),
    "segmenter-vit-l": partial(_build, "segmenter", "Segmenter", variant="l"),
    "maskformer-swin-b": partial(_build, "maskformer", "MaskFormer", variant="b"),
    "maskformer-swin-l": partial(_build, "maskformer", "MaskFormer", variant="l"),
    "transunet-r50-vit-b16": partial(_build, "transunet", "TransUNet"),
    "efficientnet-lite0": partial(_build, "lite", "LiteHost"),
}


def create_host(
    name: str,
    upsampler: str = "resfu",
    num_classes: int = 150,
    pretrained: bool | str = False,
    upsampler_options: dict[str, object] | None = None,
) -> SegmentationHost:
    """Build a segmentation network by name.

    Args:
        name: a key of `HOSTS`.
        upsampler: a key of `resfu.UPSAMPLERS`; it sits in every slot of the network.
        num_classes: number of logits a pixel.
        pretrained: False starts from random weights, True fetches the encoder's ImageNet weights, a path loads the
            encoder's weights from there.
        upsampler_options: further constructor arguments of the upsampler. Widths and ratios are the network's to give.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: for an unknown name or a bad value (the message lists what is possible).
    """
    if name not in HOSTS:
        raise ValueError(f"unknown host {name!r}; choose one of {', '.join(HOSTS)}.")
    return HOSTS[name](
        upsampler=upsampler, num_classes=num_classes, pretrained=pretrained, upsampler_options=upsampler_options
    )
