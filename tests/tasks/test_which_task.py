"""Which task a network and its data make."""

import importlib.util

import pytest

from resfu.tasks import TASKS, task_of
from resfu.tasks.experiment import Experiment

MASK, PANOPTIC = "mask-rcnn-efficientnet-lite0", "panoptic-fpn-efficientnet-lite0"


@pytest.mark.parametrize(
    ("host", "data", "task"),
    [
        ("efficientnet-lite0", "scenes", "label maps"),
        ("segformer-mit-b0", "ade20k", "label maps"),
        ("segformer-mit-b0", "ct", "volumes"),
        ("segformer-mit-b0", "tests.support.own:OwnData", "label maps"),
        ("tests.support.own:own_host", "scenes", "label maps"),
        ("tests.support.own:finder", "scenes", "instances"),
        (MASK, "scenes", "instances"),
        ("mask-rcnn-resnet50", "coco", "instances"),
        (PANOPTIC, "scenes", "panoptic"),
        ("panoptic-fpn-resnet50", "coco", "panoptic"),
    ],
)
def test_host_and_data_decide(host, data, task):
    assert task_of(host, data) is TASKS[task]
    assert TASKS[task].name == task


@pytest.mark.parametrize(
    ("host", "data", "message"),
    [
        ("efficientnet-lite0", "coco", "coco labels objects, which efficientnet-lite0 does not find: choose a host"),
        (MASK, "camvid", f"{MASK} finds objects, which camvid does not label: choose data from scenes, coco"),
        ("segformer", "scenes", "unknown host 'segformer'; choose one of segformer-mit-b0"),
        ("segformer-mit-b0", "moon", "unknown dataset 'moon'; choose one of .*, or give package.module:Class"),
        ("nowhere:net", "scenes", "the host 'nowhere:net' cannot be imported: No module named 'nowhere'"),
        (
            "tests.support.own:stranger",
            "scenes",
            "stranger is for an unknown task 'dreams': its `task` must be",
        ),
        ("segformer-mit-b0", "tests.support.own:None", "the dataset 'tests.support.own:None' cannot be imported"),
    ],
)
def test_what_does_not_go_together_is_refused(host, data, message):
    with pytest.raises(ValueError, match=message):
        task_of(host, data)


def test_settings_without_a_host_or_data_have_the_defaults():
    experiment = Experiment({})
    assert experiment.task.name == "label maps"
    assert (experiment.settings["model"]["host"], experiment.settings["data"]["dataset"]) == (
        "segformer-mit-b0",
        "scenes",
    )


def test_objects_need_a_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"mask-rcnn-resnet50 needs pycocotools, .* pip install \"resfu\[coco\]\""):
        task_of("mask-rcnn-resnet50", "coco")
