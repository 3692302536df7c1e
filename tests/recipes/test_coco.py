"""The rows of Table XII: each as published; each host trains, resumes, measures and predicts by its recipe."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.resnet import Bottleneck, ResNet

from resfu.cli import main
from resfu.compare.reproduce.rows import OBJECT_TABLES, recipe_name
from resfu.compare.reproduce.sheets import save_predictions
from resfu.data.coco.panoptic import decode_ids
from resfu.training.parameter_groups import parameter_groups
from tests.support.box_head import NarrowBoxHead
from tests.support.coco_fixture import write_coco_fixture
from tests.support.published import experiment_of, losses, module_of, named
from tests.support.tiny_networks import DETECTOR

ROWS = named(*OBJECT_TABLES)
# Of the networks with nearest upsampling: torchvision's Mask R-CNN for 81 outputs, 53,120 of it fixed batch
# normalisation, and what the semantic head adds.
PARAMETERS = {
    "mask-rcnn-resnet50": 44_400_693 - 53_120,
    "panoptic-fpn-resnet50": 44_400_693 - 53_120 + 1_630_774,
}
RESFU = 142_710
TINY = DETECTOR | {"layers": [1, 1, 1, 1], "min_size": [48, 64]}  # lists, as YAML has them


def test_every_published_row_has_a_recipe():
    assert {recipe_name(row) for row in ROWS.values()} == {f"{host}_coco" for host in PARAMETERS}
    assert len(ROWS) == 2 * 10


@pytest.mark.parametrize("name", ROWS)
def test_it_builds_and_says_what_the_publication_says(name):
    row, experiment = ROWS[name], experiment_of(name)
    model, data, trainer = (experiment.settings[part] for part in ("model", "data", "trainer"))
    assert (model["host"], model["upsampler"], data["dataset"]) == (row.host, row.upsampler, row.dataset)
    assert (model["upsampler_options"] or {}) == row.upsampler_options
    assert (model["pretrained"], 8 * data["batch_size"], data["test_split"]) == (True, 16, "val")
    assert (trainer["max_epochs"], trainer["max_steps"], trainer["check_val_every_n_epoch"]) == (12, -1, 1)
    task = module_of(experiment)
    assert (task.host.min_sizes, task.host.transform.max_size) == ((800,), 1333)
    assert all(parameter.is_meta for parameter in task.host.parameters())
    if row.upsampler in ("nearest", "bilinear", "resfu"):
        found = sum(parameter.numel() for parameter in task.host.parameters())
        assert found == PARAMETERS[row.host] + RESFU * (row.upsampler == "resfu")


def test_the_optimisation():
    task = module_of(experiment_of("mask-rcnn-resnet50_resfu_coco"))
    groups = {g["name"]: g for g in parameter_groups(task.host, task.optimisation, "backbone.body.")}
    assert {name: group["lr"] for name, group in groups.items()} == pytest.approx(
        {"encoder": 0.02, "head": 0.02, "head/similarity": 0.5}
    )
    assert all(group["weight_decay"] * group["gradient_multiplier"] == pytest.approx(1e-4) for group in groups.values())
    assert (task.optimisation.method, task.optimisation.momentum) == ("sgd", 0.9)
    trained = {id(parameter) for group in groups.values() for parameter in group["params"]}
    names = [name for name, parameter in task.host.named_parameters() if id(parameter) not in trained]
    assert names
    assert all(name.startswith(("backbone.body.conv1", "backbone.body.layer1")) for name in names)
    # 12 epochs of 7,330 steps: 500 of warm-up, then a tenth from the ninth and a hundredth from the twelfth on.
    rate = [task.schedule.learning_rate(step, 0.02, 12 * 7330) for step in (0, 250, 500, 58639, 58640, 80629, 80630)]
    assert rate == pytest.approx([2e-5, 0.01001, 0.02, 0.02, 0.002, 0.002, 0.0002])


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return write_coco_fixture(tmp_path_factory.mktemp("coco") / "root", count=4)


@pytest.mark.parametrize("host", ["mask-rcnn-resnet50", "panoptic-fpn-resnet50"])
def test_a_training_by_it_resumes_measures_and_predicts(host, coco, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torchvision.models.detection.faster_rcnn.TwoMLPHead", NarrowBoxHead)
    trainer = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    small = ["--data.root", str(coco), "--data.num_workers", "0", "--data.batch_size", "1"]
    torch.save(ResNet(Bottleneck, [1, 1, 1, 1]).state_dict(), tmp_path / "encoder.pth")
    small += ["--model.pretrained", str(tmp_path / "encoder.pth"), "--model.host_options", json.dumps(TINY)]
    # The full rate at once, or an optimiser that lost its state would not show.
    small += ["--model.schedule.total_steps", "9", "--model.schedule.warmup_steps", "0"]
    fit = ["fit", "--recipe", f"{host}_coco", "--upsampler", "resfu", *small, *trainer]
    fit += ["--trainer.log_every_n_steps", "1", "--trainer.val_check_interval", "2"]

    whole, cut = ["--run", str(tmp_path / "whole")], ["--run", str(tmp_path / "cut")]
    assert main([*fit, *whole, "--trainer.max_steps", "2"]) == 0
    assert main([*fit, *cut, "--trainer.max_steps", "1"]) == 0
    assert main([*fit, *cut, "--trainer.max_steps", "2", "--checkpoint", "last"]) == 0
    seen = losses(tmp_path / "cut", 0) + losses(tmp_path / "cut", 1)
    assert seen == losses(tmp_path / "whole")  # exact equality is meant
    assert [step for step, _ in seen] == [0, 1]
    first, second = (
        torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True) for run in ("whole", "cut")
    )
    assert all(torch.equal(value, second["state_dict"][name]) for name, value in first["state_dict"].items())
    assert not any("num_batches_tracked" in name for name in second["state_dict"])  # fixed batch normalisation
    best = torch.load(tmp_path / "whole" / "checkpoints" / "best.ckpt", weights_only=True)
    chosen_by = [state["monitor"] for state in best["callbacks"].values() if "monitor" in state]
    assert chosen_by == ["val/pq" if host.startswith("panoptic") else "val/mask_ap"]

    metrics = tmp_path / "metrics.json"
    capsys.readouterr()
    assert main(["test", *cut, "--checkpoint", "last", "--metrics", str(metrics), *trainer]) == 0
    out = capsys.readouterr().out
    assert "traffic light" in out
    found = json.loads(metrics.read_text())
    if host.startswith("panoptic"):
        assert "test/pq_stuff" in out
        assert len(found["sq_by_class"]) == 133
        assert 0 <= found["pq"] <= 100
    else:
        assert "test/ap75" in out
        assert len(found["ap_by_class"]) == 80
        assert 0 <= found["mask_ap"] <= 100

    output, bad = tmp_path / "found", tmp_path / "bad.png"
    predict = [*cut, "--checkpoint", "last", "--output", str(output), *trainer]
    assert main(["predict", str(coco / "val2017"), *predict]) == 0
    assert capsys.readouterr().out.endswith(f"pictures and their results in {output}: 4\n")
    _check_files(output, panoptic=host.startswith("panoptic"))
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    save_predictions({"resfu": last, "again": last}, tmp_path / "sheets" / "both.png", count=2)
    with Image.open(tmp_path / "sheets" / "both.png") as sheet:
        assert sheet.width > 4 * 300  # image, labels, and two networks
        assert sheet.height > 2 * 240
    bad.write_bytes(b"not a picture")
    photo = str(coco / "val2017" / "000000010003.jpg")
    assert main(["predict", str(bad), photo, *predict, "--on-error", "skip"]) == 0
    assert "skipped: cannot read the image" in capsys.readouterr().err
    assert [image["id"] for image in json.loads((output / "images.json").read_text())["images"]] == [2]  # counted


def _check_files(output, panoptic):
    names = [f"{number:012d}" for number in range(10001, 10005)]
    listed = json.loads((output / "images.json").read_text())
    assert [image["id"] for image in listed["images"]] == [10001, 10002, 10003, 10004]  # names of COCO's are numbers
    categories = {category["id"] for category in listed["categories"]}
    instances = json.loads((output / "instances.json").read_text())
    assert instances
    for entry in instances:
        assert entry["category_id"] in categories
        assert entry["segmentation"]["size"] == [48, 64]
    for name in names:
        with Image.open(output / "pictures" / f"{name}.png") as picture:
            assert picture.size == (64, 48)
    if not panoptic:
        return
    for entry in json.loads((output / "panoptic.json").read_text())["annotations"]:
        ids = decode_ids(np.asarray(Image.open(output / "panoptic" / entry["file_name"])))
        assert set(np.unique(ids)) - {0} == {segment["id"] for segment in entry["segments_info"]}


def test_wrong_settings_are_one_line(coco, tmp_path, capsys):
    recipe = ["--recipe", "mask-rcnn-resnet50_coco", "--upsampler", "resfu", "--run", str(tmp_path / "run")]
    tiny = ["--model.pretrained", "false", "--trainer.accelerator", "cpu"]
    for words, part in (
        (["--model.host_options", '{"num_classes": 3}'], "host_options must leave num_classes"),
        (["--model.host_options", '{"min_sise": 3}'], "no setting min_sise"),
        (["--data.crop_size", "[3, 3]"], "unknown key data.crop_size"),
        (["--data.dataset", "ade20k"], "finds objects, which ade20k does not label: choose data from scenes, coco"),
        (
            ["--data.root", str(coco), "--model.num_classes", "79", "--model.host_options", json.dumps(TINY)],
            "classes of things and of stuff: 79 and 0 in the network, 80 and 0 in the data set; set num_classes to 80.",
        ),
    ):
        assert main(["fit", *recipe, *tiny, *words]) == 2
        error = capsys.readouterr().err
        assert part in error
        assert error.count("\n") == 1
