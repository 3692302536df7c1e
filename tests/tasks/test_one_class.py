"""Data sets with one class, from training to the table: label maps, one organ, one kind of object."""

import json

import pytest
import torch
from lightning.pytorch import Trainer

import resfu.data
from resfu.data.coco.fixture import write_coco_fixture
from resfu.data.medical.acdc import ACDC
from resfu.data.medical.fixtures import write_medical_fixture
from resfu.evaluation.panoptic import PanopticMetrics
from resfu.training.class_table import plain_metrics
from resfu.tasks.label_maps import LabelMapData
from resfu.training.detection import DetectionTask
from resfu.training.detection_data import DetectionData
from resfu.training.object_table import object_table, plain_object_metrics
from resfu.training.quiet import known_warnings_ignored
from resfu.tasks.label_maps import LabelMapModule

STATISTICS = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def train_and_test(task, data, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", max_steps=1, enable_model_summary=False, **quiet, **options)
    data.splits["test"] = "val"
    with known_warnings_ignored():
        trainer.fit(task, datamodule=data)
        trainer.test(task, datamodule=data, verbose=False)


def test_label_maps(monkeypatch, capsys):
    toy = resfu.data.DATASETS["toy"]

    class OneClass(toy):
        classes, palette = ("ground",), toy.palette[:1]

        def load(self, index):
            sample = super().load(index)
            sample["label"][sample["label"] == 1] = 255
            return sample

    monkeypatch.setitem(resfu.data.DATASETS, "toy", OneClass)
    task = LabelMapModule("toy", "bilinear", num_classes=1)
    train_and_test(task, LabelMapData("toy", **STATISTICS, crop_size=(16, 16), batch_size=2))
    assert plain_metrics(task.results)["iou"] == [100]
    assert "ground" in capsys.readouterr().out


def test_volumes(monkeypatch, tmp_path, capsys):
    class OneOrgan(ACDC):
        classes, palette = ACDC.classes[:2], ACDC.palette[:2]

    monkeypatch.setitem(resfu.data.DATASETS, "acdc", OneOrgan)
    root = write_medical_fixture("acdc", tmp_path / "root", count=1, size=(2, 32, 32))
    options = {"root": str(root), "options": {"labels": {0: 0, 1: 1, 2: 0, 3: 0}}, "augmentation": "slice"}
    data = LabelMapData("acdc", **STATISTICS, **options, crop_size=(32, 32), batch_size=2)
    task = LabelMapModule("toy", "bilinear", num_classes=2)
    train_and_test(task, data)
    plain = json.loads(json.dumps(plain_metrics(task.results), allow_nan=False))
    assert [len(plain[key]) for key in ("dice", "hd95_found", "hd95", "missed")] == [1] * 4
    assert "right ventricle" in capsys.readouterr().out


def test_objects(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESFU_CACHE", str(tmp_path / "cache"))
    root = write_coco_fixture(tmp_path / "coco", 2, (64, 64))
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}2017.json"
        content = json.loads(file.read_text())
        content["categories"] = content["categories"][:1]
        for entry in content["annotations"]:
            entry["category_id"] = 1
        file.write_text(json.dumps(content))
    task = DetectionTask(
        "mask-rcnn-efficientnet-lite0", "nearest", 1, host_options={"min_size": 64, "max_size": 64}, boundary=True
    )
    train_and_test(task, DetectionData("coco", False, str(root), batch_size=1), num_sanity_val_steps=0)
    plain = plain_object_metrics(task.results)
    assert [len(plain[key]) for key in ("ap_by_class", "boundary_ap_by_class")] == [1, 1]
    assert "person" in capsys.readouterr().out


@pytest.mark.parametrize("numbers", [(1, 0), (0, 1)])
def test_the_table_of_one_panoptic_class(numbers):
    metrics, ids = PanopticMetrics(*numbers), torch.ones(2, 3, dtype=torch.int32)
    metrics.update(ids, [{"id": 1, "category_id": 0}], ids, [{"id": 1, "category_id": 0, "iscrowd": 0}])
    found = metrics.compute()
    category = resfu.data.coco.Category(1, "cat", bool(numbers[0]), (0, 0, 0))
    assert [list(column.cells) for column in object_table(found, [category]).columns[:2]] == [["cat"], ["100.00"]]
    assert plain_object_metrics(found)["pq_by_class"] == [100]
