"""The task and the data of objects, without a training."""

import pytest
import torch
from lightning.pytorch import Trainer

from resfu.data.coco import Category
from resfu.tasks import TASKS
from resfu.tasks.instances import InstanceData, InstanceModule
from resfu.tasks.panoptic import PanopticData, PanopticModule
from resfu.training.parameter_groups import Optimisation
from resfu.training.quiet import known_warnings_ignored
from resfu.training.schedule import Schedule
from resfu.training.scores import headline, plain


@pytest.mark.parametrize("data", [InstanceData, PanopticData])
def test_what_the_data_module_refuses(data):
    for options, words in (
        ({"dataset": "camvid"}, "unknown dataset 'camvid'; choose one of coco, scenes"),
        ({"batch_size": 0}, "batch_size must be an int from 1, got 0"),
        ({"num_workers": -1}, "num_workers must be an int from 0, got -1"),
    ):
        with pytest.raises(ValueError, match=words):
            data(**options)


def test_what_damaged_files_lead_to_reaches_the_data_sets_that_have_files():
    assert InstanceData("coco", on_error="skip").train_options == {"on_error": "skip"}
    assert InstanceData("coco", on_error="skip", options={"on_error": "raise"}).eval_options == {"on_error": "raise"}
    assert InstanceData("scenes", on_error="skip", train_options={"count": 3}).train_options == {"count": 3}


def test_what_the_task_refuses():
    with pytest.raises(ValueError, match="'pspnet-resnet50' does not find objects; choose one of mask-rcnn-resnet50, "):
        InstanceModule("pspnet-resnet50")
    with pytest.raises(ValueError, match="host_options must leave stuff_classes to the settings"):
        PanopticModule(host_options={"stuff_classes": 3})


def test_the_encoder_has_a_rate_of_its_own():
    optimisation = Optimisation(method="sgd", learning_rate=0.1, head_multiplier=3)
    with torch.device("meta"):
        task = InstanceModule(num_classes=2, optimisation=optimisation, schedule=Schedule(power=0, total_steps=10))
    optimizer = task.configure_optimizers()["optimizer"]
    (encoder,) = (group for group in optimizer.param_groups if group["name"] == "encoder")
    assert encoder["lr"] == pytest.approx(0.1)
    body = {id(p) for name, p in task.host.named_parameters() if name.startswith("backbone.body") and p.dim() == 4}
    assert {id(p) for p in encoder["params"]} == body
    assert [g["lr"] for g in optimizer.param_groups if g["name"] == "head"] == [pytest.approx(0.3)]


def test_batches_are_of_objects(tmp_path):
    data = PanopticData("scenes", root=str(tmp_path), options={"size": [32, 48], "count": 3}, batch_size=2)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert {len(batch[key]) for key in ("image", "target", "ids", "segments", "name")} == {2}
    assert all(image.shape == (3, 32, 48) and 0 <= image.min() <= image.max() <= 1 for image in batch["image"])
    assert all(target["semantic"].shape == (32, 48) for target in batch["target"])
    assert TASKS["panoptic"].monitor.key == "pq"
    assert TASKS["instances"].monitor.key == "mask_ap"
    assert len(list(data.val_dataloader())) == 3


def test_perfect_answers_score_a_hundred(tmp_path):
    options = {"layers": [1, 1, 1, 1]}
    data = InstanceData("scenes", root=str(tmp_path), options={"size": [64, 64], "count": 3})
    task = InstanceModule("mask-rcnn-resnet50", "nearest", 9, host_options=options)
    data.setup("test")
    truth = [data.evaluated[index]["target"] for index in range(3)]

    def answer(images):
        target = truth.pop(0)
        scores = torch.ones(len(target["labels"]))
        return [{"masks": target["masks"][:, None].float(), "labels": target["labels"], "scores": scores}]

    task.host.forward = answer
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    with known_warnings_ignored():
        (logged,) = Trainer(accelerator="cpu", **quiet).test(task, data, verbose=False)
    assert logged["test/mask_ap"] == pytest.approx(100)
    assert [category.name for category in task.categories[:2]] == ["rock", "flower"]
    assert "mask_ap" in task.results


def test_tables_and_plain_values():
    categories = [Category(1, "cat", True, (0, 0, 0)), Category(9, "sky", False, (0, 0, 0))]
    by_class = {f"{key}_by_class": torch.tensor([50.0, float("nan")]) for key in ("pq", "sq", "rq")}
    metrics = {"pq": 50.0, "pq_things": 50.0, "pq_stuff": float("nan"), "sq": 80.0, "rq": 60.0, **by_class}
    assert list(headline(PanopticModule.scores, metrics)) == ["pq", "pq_things", "pq_stuff", "sq", "rq"]
    with torch.device("meta"):
        panoptic, instances = PanopticModule(num_classes=1, stuff_classes=1), InstanceModule(num_classes=1)
    panoptic.categories, panoptic.results = categories, metrics
    table = panoptic.table()
    assert [list(column.cells) for column in table.columns[:2]] == [["cat", "sky"], ["50.00", "-"]]
    assert table.columns[1].footer == "50.00"
    kept = plain(metrics)
    assert kept["pq_stuff"] is None
    assert kept["sq_by_class"] == [50.0, None]
    found = {"mask_ap": 1.0, "ap50": 2.0, "boundary_mask_ap": 3.0, "ap_by_class": torch.tensor([1.0])}
    assert headline(InstanceModule.scores, found) == {"mask_ap": 1.0, "ap50": 2.0, "boundary_mask_ap": 3.0}
    # Of instances only things are measured.
    instances.categories, instances.results = categories, found
    assert list(instances.table().columns[0].cells) == ["cat"]
