"""Naming the hosts costs nothing."""

import subprocess
import sys

HEAVY = ("transformers", "torchvision", "timm", "safetensors", "resfu.hosts.base", "resfu.hosts.segformer")


def test_the_package_imports_no_backbone_library() -> None:
    script = f"import resfu, sys; print([name for name in {HEAVY!r} if name in sys.modules], *resfu.HOSTS)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names = [f"segformer-mit-b{i}" for i in range(6)]
    names += ["pspnet-resnet50", "pspnet-resnet101", "segmenter-vit-s", "segmenter-vit-l"]
    names += ["maskformer-swin-b", "maskformer-swin-l", "transunet-r50-vit-b16", "transunet-small"]
    names += ["efficientnet-lite0", "mask-rcnn-resnet50", "panoptic-fpn-resnet50"]
    names += ["mask-rcnn-efficientnet-lite0", "panoptic-fpn-efficientnet-lite0"]
    assert done.stdout.strip() == " ".join(["[]", *names])
