"""Which kind of training some words ask for."""

import importlib.util

import pytest
import torch

from resfu.cli.kind import kind_of
from resfu.training.detection import DetectionTask
from resfu.tasks.label_maps import LabelMapModule


@pytest.fixture
def place(tmp_path):
    (tmp_path / "mask.yaml").write_text("model: {host: mask-rcnn-resnet50}")
    (tmp_path / "label.yaml").write_text("model: {host: segformer-mit-b0}")
    (tmp_path / "broken.yaml").write_text("model: [")
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"hyper_parameters": {"host": "panoptic-fpn-resnet50"}}, folder / "last.ckpt")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "task"),
    [
        ([], LabelMapModule),
        (["--model.host", "mask-rcnn-resnet50"], DetectionTask),
        (["--model.host=panoptic-fpn-resnet50"], DetectionTask),
        (["--config", "mask.yaml"], DetectionTask),
        (["--config=mask.yaml", "-c", "label.yaml"], LabelMapModule),
        (["--config", "label.yaml", "--model.host", "mask-rcnn-resnet50"], DetectionTask),
        (["--run", "run", "--ckpt_path", "last"], DetectionTask),
        (["--ckpt_path", "run/checkpoints/last.ckpt"], DetectionTask),
        (["--ckpt_path", "run/checkpoints/last.ckpt", "--config", "label.yaml"], LabelMapModule),
        # What is wrong with these the parser says.
        (["--config", "broken.yaml"], LabelMapModule),
        (["--config", "missing.yaml"], LabelMapModule),
        (["--ckpt_path", "mask.yaml"], LabelMapModule),
        (["--config"], LabelMapModule),
    ],
)
def test_the_host_decides(words, task, place, monkeypatch):
    monkeypatch.chdir(place)
    assert kind_of(words).task is task


def test_objects_need_a_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"mask-rcnn-resnet50 needs pycocotools, .* pip install \"resfu\[coco\]\""):
        kind_of(["--model.host", "mask-rcnn-resnet50"])
