"""Segmentation networks with a slot for an upsampler; heavy packages are only imported when a network is built."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, overload

from resfu.files.libraries import own_module
from resfu.hosts.named import check_host_options, named_host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resfu.hosts.base import SegmentationHost
    from resfu.hosts.lite import LiteHost
    from resfu.hosts.lite_detectors import create_lite_detector
    from resfu.hosts.mask_rcnn import MaskRCNN
    from resfu.hosts.maskformer import MaskFormer
    from resfu.hosts.panoptic_fpn import PanopticFPN
    from resfu.hosts.pspnet import PSPNet
    from resfu.hosts.segformer import SegFormer
    from resfu.hosts.segmenter import Segmenter
    from resfu.hosts.slot import Slot, SlotFactory
    from resfu.hosts.transunet import TransUNet

_LITE = "for experiments on a laptop, on an EfficientNet-Lite0."
_ALL = (
    *(named_host(f"segformer-mit-b{i}", "SegFormer", f"SegFormer on a MiT-B{i}.", variant=f"b{i}") for i in range(6)),
    named_host("pspnet-resnet50", "PSPNet", "PSPNet on a dilated ResNet-50.", depth=50),
    named_host("pspnet-resnet101", "PSPNet", "PSPNet on a dilated ResNet-101.", depth=101),
    named_host("segmenter-vit-s", "Segmenter", "Segmenter on a ViT-S.", variant="s"),
    named_host("segmenter-vit-l", "Segmenter", "Segmenter on a ViT-L.", variant="l"),
    named_host("maskformer-swin-b", "MaskFormer", "MaskFormer on a Swin-B.", variant="b"),
    named_host("maskformer-swin-l", "MaskFormer", "MaskFormer on a Swin-L.", variant="l"),
    named_host("transunet-r50-vit-b16", "TransUNet", "TransUNet on a ResNet-50 and a ViT-B/16."),
    named_host(
        "transunet-small",
        "TransUNet",
        "A small TransUNet for experiments on a laptop.",
        layers=(1, 1, 1),
        width=128,
        depth=2,
        image_size=128,
        channels=(128, 64, 32, 16),
    ),
    named_host("efficientnet-lite0", "LiteHost", f"A small network {_LITE}"),
    *(
        named_host(
            f"efficientnet-lite{i}",
            "LiteHost",
            f"The same on an EfficientNet-Lite{i}.",
            variant=f"efficientnet-lite{i}",
        )
        for i in (1, 2)
    ),
    named_host("mask-rcnn-resnet50", "MaskRCNN", "Mask R-CNN on a ResNet-50.", "instances"),
    named_host("panoptic-fpn-resnet50", "PanopticFPN", "Panoptic FPN on a ResNet-50.", "panoptic"),
    named_host(
        "mask-rcnn-efficientnet-lite0",
        "create_lite_detector",
        f"A small Mask R-CNN {_LITE}",
        "instances",
        panoptic=False,
    ),
    named_host(
        "panoptic-fpn-efficientnet-lite0",
        "create_lite_detector",
        f"A small Panoptic FPN {_LITE}",
        "panoptic",
        panoptic=True,
    ),
)
HOSTS: dict[str, Callable[..., Any]] = {host.__name__: host for host in _ALL}
# Hosts that detect objects, including panoptic ones, take lists of images by torchvision's conventions. The others turn
# a batch of images into logits.
PANOPTIC_HOSTS = ("panoptic-fpn-resnet50", "panoptic-fpn-efficientnet-lite0")
DETECTION_HOSTS = ("mask-rcnn-resnet50", "mask-rcnn-efficientnet-lite0", *PANOPTIC_HOSTS)


def find_host(name: str) -> Callable[..., Any]:
    """Find the function that builds a network.

    Args:
        name: a key of `HOSTS`, or "package.module:function" for a function of your own that can be imported. It is
            called with `upsampler`, `num_classes`, `pretrained` and `upsampler_options`. It returns a network with the
            interface of `resfu.hosts.SegmentationHost`, or the one that the module of its task (attribute `task`)
            needs.

    Raises:
        ValueError: for an unknown name (the message lists the known ones), or a function that cannot be imported.
    """
    if name in HOSTS:
        return HOSTS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"unknown host {name!r}; choose one of {', '.join(HOSTS)}, or give package.module:function.")
    try:
        return getattr(own_module(module), attribute)
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
        upsampler: a key of `resfu.UPSAMPLERS`; it is used in every slot of the network.
        num_classes: number of logits for each pixel, 150 by default. For `DETECTION_HOSTS` the number of object
            classes, without the background or stuff, 80 by default.
        pretrained: False for random weights, True to fetch the encoder's ImageNet weights, or a path from which to load
            the encoder's weights.
        upsampler_options: further constructor arguments of the upsampler. Widths and ratios are set by the network.
        host_options: further constructor arguments of the network's class, such as `encoder_form` of `TransUNet`.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: for an unknown name or a bad value (the message lists what is possible).

    >>> import resfu, torch
    >>> net = resfu.create_host("efficientnet-lite0", upsampler="resfu", num_classes=12)
    >>> net(torch.randn(2, 3, 96, 128)).shape
    torch.Size([2, 12, 96, 128])
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
    check_host_options(host_options or {}, given)
    return build(**given, **(host_options or {}))


# Imported when they are first used, because they import timm, transformers or torchvision.
_CLASSES = {
    "LiteHost": "lite",
    "MaskFormer": "maskformer",
    "MaskRCNN": "mask_rcnn",
    "PSPNet": "pspnet",
    "PanopticFPN": "panoptic_fpn",
    "SegFormer": "segformer",
    "SegmentationHost": "base",
    "Segmenter": "segmenter",
    "Slot": "slot",
    "SlotFactory": "slot",
    "TransUNet": "transunet",
    "create_lite_detector": "lite_detectors",
}

__all__ = [
    "DETECTION_HOSTS",
    "HOSTS",
    "PANOPTIC_HOSTS",
    "LiteHost",
    "MaskFormer",
    "MaskRCNN",
    "PSPNet",
    "PanopticFPN",
    "SegFormer",
    "SegmentationHost",
    "Segmenter",
    "Slot",
    "SlotFactory",
    "TransUNet",
    "create_host",
    "create_lite_detector",
    "find_host",
]


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module 'resfu.hosts' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"resfu.hosts.{_CLASSES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
