"""Naming the hosts costs nothing, and their classes are there when they are asked for."""

import pydoc
import subprocess
import sys

import pytest

import resfu
from resfu import hosts

HEAVY = ("transformers", "torchvision", "timm", "safetensors", "resfu.hosts.base", "resfu.hosts.segformer")
CLASSES = "SegFormer, PSPNet, Segmenter, MaskFormer, TransUNet, LiteHost, MaskRCNN, PanopticFPN, SlotFactory"


def output_of(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def test_the_package_imports_no_backbone_library() -> None:
    script = f"import resfu, sys; print([name for name in {HEAVY!r} if name in sys.modules], *resfu.HOSTS)"
    names = [f"segformer-mit-b{i}" for i in range(6)]
    names += ["pspnet-resnet50", "pspnet-resnet101", "segmenter-vit-s", "segmenter-vit-l"]
    names += ["maskformer-swin-b", "maskformer-swin-l", "transunet-r50-vit-b16", "transunet-small"]
    names += [*(f"efficientnet-lite{i}" for i in range(3)), "mask-rcnn-resnet50", "panoptic-fpn-resnet50"]
    names += ["mask-rcnn-efficientnet-lite0", "panoptic-fpn-efficientnet-lite0"]
    assert output_of(script) == " ".join(["[]", *names])


def test_a_class_is_imported_when_it_is_named() -> None:
    """And not before: `help` of every network, and the list of the names, do without."""
    script = f"""
import resfu, sys, pydoc
import resfu.hosts
for name, host in resfu.HOSTS.items():
    assert pydoc.render_doc(host), name
dir(resfu.hosts)
print([name for name in {HEAVY!r} if name in sys.modules])
from resfu.hosts import {CLASSES}
print(SegFormer.__module__, "transformers" in sys.modules)
"""
    assert output_of(script).splitlines() == ["[]", "resfu.hosts.segformer True"]
    assert {*CLASSES.split(", ")} < {*dir(hosts)} == {*hosts.__all__}
    assert all(getattr(hosts, name).__name__ == name for name in CLASSES.split(", "))
    with pytest.raises(AttributeError, match=r"module 'resfu\.hosts' has no attribute 'Segformer'"):
        _ = hosts.Segformer


@pytest.mark.parametrize("name", resfu.HOSTS)
def test_help_says_what_a_network_is_and_takes(name: str) -> None:
    text = pydoc.plain(pydoc.render_doc(resfu.HOSTS[name]))
    assert f"{name}(upsampler: str = 'resfu', num_classes: int | None = None, pretrained: bool | str = False" in text
    assert f"The same as `resfu.hosts.{resfu.HOSTS[name].__doc__.split('resfu.hosts.')[1].split('(')[0]}(" in text
    assert "**host_options: further arguments of" in text
