"""Segmentation networks with a place for an upsampler; nothing heavy is imported before one is built."""

from __future__ import annotations

import importlib
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resfu.hosts.base import SegmentationHost
    from resfu.hosts.mask_rcnn import MaskRCNN


def _build(module: str, host: str, **options: object) -> Any:
    build = getattr(importlib.import_module(f"resfu.hosts.{module}"), host)
    known = inspect.signature(build).parameters
    unknown = [name for name in options if name not in known]
    if unknown and all(parameter.kind is not parameter.VAR_KEYWORD for parameter in known.values()):
        raise ValueError(f"{host} has no option {', '.join(unknown)}; its options are {', '.join(known)}.")
    return build(**options)


HOSTS: dict[str, Callable[..., Any]] = {
    **{f"segformer-mit-b{i}": partial(_build, "segformer", "SegFormer", variant=f"b{i}") for i in range(6)},
    "pspnet-resnet50": partial(_build, "pspnet", "PSPNet", depth=50),
    "pspnet-resnet101": partial(_build, "pspnet", "PSPNet", depth=101),
    "segmenter-vit-s": partial(_build, "segmenter", "Segmenter", variant="s"),
    "segmenter-vit-l": partial(_build, "segmenter", "Segmenter", variant="l"),
    "maskformer-swin-b": partial(_build, "maskformer", "MaskFormer", variant="b"),
    "maskformer-swin-l": partial(_build, "maskformer", "MaskFormer", variant="l"),
    "transunet-r50-vit-b16": partial(_build, "transunet", "TransUNet"),
    "transunet-small": partial(
        _build,
        "transunet",
        "TransUNet",
        layers=(1, 1, 1),
        width=128,
        depth=2,
        image_size=128,
        channels=(128, 64, 32, 16),
    ),
    "efficientnet-lite0": partial(_build, "lite", "LiteHost"),
    "mask-rcnn-resnet50": partial(_build, "mask_rcnn", "MaskRCNN"),
    "panoptic-fpn-resnet50": partial(_build, "panoptic_fpn", "PanopticFPN"),
    "mask-rcnn-efficientnet-lite0": partial(_build, "lite_detectors", "create_lite_detector", panoptic=False),
    "panoptic-fpn-efficientnet-lite0": partial(_build, "lite_detectors", "create_lite_detector", panoptic=True),
}
# Those that find objects: lists of images in, torchvision's conventions; the others take a batch and give logits.
PANOPTIC_HOSTS = ("panoptic-fpn-resnet50", "panoptic-fpn-efficientnet-lite0")
DETECTION_HOSTS = ("mask-rcnn-resnet50", "mask-rcnn-efficientnet-lite0", *PANOPTIC_HOSTS)


def find_host(name: str) -> Callable[..., Any]:
    """What makes a network.

    Args:
        name: a key of `HOSTS`, or "package.module:function" for one of your own that can be imported. It is called with
            `upsampler`, `num_classes`, `pretrained` and `upsampler_options`, and what is said of `create_host` and
            `resfu.hosts.base.SegmentationHost` holds for what it returns.

    Raises:
        ValueError: for an unknown name, the message lists the known ones; or a function that cannot be imported.
    """
    if name in HOSTS:
        return HOSTS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"unknown host {name!r}; choose one of {', '.join(HOSTS)}, or give package.module:function.")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the host {name!r} cannot be imported: {error}.") from error


@overload
def create_host(  # pyright: ignore[reportOverlappingOverload]
    name: Literal[
        "mask-rcnn-resnet50",
        "panoptic-fpn-resnet50",
        "mask-rcnn-efficientnet-lite0",
        "panoptic-fpn-efficientnet-lite0",
    ],
    *args: Any,
    **options: Any,
) -> MaskRCNN: ...


@overload
def create_host(
    name: str,
    upsampler: str = "resfu",
    num_classes: int | None = None,
    pretrained: bool | str = False,
    upsampler_options: dict[str, object] | None = None,
    host_options: Mapping[str, object] | None = None,
) -> SegmentationHost: ...


def create_host(
    name: str,
    upsampler: str = "resfu",
    num_classes: int | None = None,
    pretrained: bool | str = False,
    upsampler_options: dict[str, object] | None = None,
    host_options: Mapping[str, object] | None = None,
) -> SegmentationHost | MaskRCNN:
    """Build a segmentation network by name.

    Args:
        name: a key of `HOSTS`, or "package.module:function", see `find_host`.
        upsampler: a key of `resfu.UPSAMPLERS`; it sits in every slot of the network.
        num_classes: number of logits a pixel, 150 by default; in `DETECTION_HOSTS` of object classes, without the
            background or stuff, 80 by default.
        pretrained: False starts from random weights, True fetches the encoder's ImageNet weights, a path loads the
            encoder's weights from there.
        upsampler_options: further constructor arguments of the upsampler. Widths and ratios are the network's to give.
        host_options: further constructor arguments of the network's class, such as `encoder_form` of `TransUNet`.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: for an unknown name or a bad value (the message lists what is possible).
    """
    build = find_host(name)
    if num_classes is None:
        num_classes = 80 if name in DETECTION_HOSTS else 150
    given = {
        "upsampler": upsampler,
        "num_classes": num_classes,
        "pretrained": pretrained,
        "upsampler_options": upsampler_options,
    }
    fixed = {**given, **getattr(build, "keywords", {})}
    taken = [option for option in host_options or {} if option in fixed]
    if taken:
        raise ValueError(f"host_options must not hold {', '.join(taken)}: the name and the other arguments set it.")
    return build(**given, **(host_options or {}))
