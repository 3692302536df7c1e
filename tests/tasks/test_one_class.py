"""Data sets with one class, from training to the table: label maps, one organ, one kind of object."""

import json

import pytest
import torch
from lightning.pytorch import Trainer

import resfu.data
from resfu.data.medical.acdc import ACDC
from resfu.evaluation.panoptic import PanopticMetrics
from resfu.tasks.instances import InstanceData, InstanceModule
from resfu.tasks.label_maps import LabelMapData, LabelMapModule
from resfu.tasks.panoptic import PanopticModule
from resfu.tasks.volumes import SliceData, VolumeModule
from resfu.training.quiet import known_warnings_ignored
from resfu.training.scores import class_table, plain
from tests.support.coco_fixture import write_coco_fixture
from tests.support.medical_fixtures import write_medical_fixture

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
    assert plain(task.results)["iou"] == [100]
    assert "ground" in capsys.readouterr().out


def test_volumes(monkeypatch, tmp_path, capsys):
    class OneOrgan(ACDC):
        classes, palette = ACDC.classes[:2], ACDC.palette[:2]

    monkeypatch.setitem(resfu.data.DATASETS, "acdc", OneOrgan)
    root = write_medical_fixture("acdc", tmp_path / "root", count=1, size=(2, 32, 32))
    options = {"root": str(root), "options": {"labels": {0: 0, 1: 1, 2: 0, 3: 0}}}
    data = SliceData("acdc", **STATISTICS, **options, crop_size=(32, 32), batch_size=2)
    task = VolumeModule(host="toy", upsampler="bilinear", num_classes=2)
    train_and_test(task, data)
    found = json.loads(json.dumps(plain(task.results), allow_nan=False))
    assert [len(found[f"{key}_by_class"]) for key in ("dice", "hd95_found", "hd95", "missed")] == [1] * 4
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
    task = InstanceModule(
        "mask-rcnn-efficientnet-lite0", "nearest", 1, host_options={"min_size": 64, "max_size": 64}, boundary=True
    )
    train_and_test(task, InstanceData("coco", root=str(root), batch_size=1), num_sanity_val_steps=0)
    found = plain(task.results)
    assert [len(found[key]) for key in ("ap_by_class", "boundary_ap_by_class")] == [1, 1]
    assert "person" in capsys.readouterr().out


@pytest.mark.parametrize("numbers", [(1, 0), (0, 1)])
def test_the_table_of_one_panoptic_class(numbers):
    metrics, ids = PanopticMetrics(*numbers), torch.ones(2, 3, dtype=torch.int32)
    metrics.update(ids, [{"id": 1, "category_id": 0}], ids, [{"id": 1, "category_id": 0, "iscrowd": 0}])
    found = metrics.compute()
    assert [list(column.cells) for column in class_table(PanopticModule.scores, found, ["cat"]).columns[:2]] == [
        ["cat"],
        ["100.00"],
    ]
    assert plain(found)["pq_by_class"] == [100]
