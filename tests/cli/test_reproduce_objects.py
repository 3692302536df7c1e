"""`resfu reproduce table12`."""

import json
import shlex

import pytest

import resfu.cli.reproduce as reproduce
from resfu.cli import main
from resfu.compare.reproduce.trainings import Training
from resfu.files.atomic import write_json
from resfu.tasks import TASKS

SMALL = {"mask-rcnn-resnet50": "scenes-instances", "panoptic-fpn-resnet50": "scenes-panoptic"}


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Run the command with a stand-in for the trainings; gives the table, what was trained, and what was drawn."""
    calls, drawn = [], []

    def carry_out(self, settings, console):
        calls.append((self.name, settings))
        panoptic, better = "panoptic" in self.name, "_resfu_" in self.name
        values = {"pq": 40.2, "pq_things": 47.8, "pq_stuff": 28.9, "sq": 77.8, "rq": 49.3}
        if not panoptic:
            values = {"mask_ap": 34.0, "ap50": 55.0, "ap75": 36.0, "ap_s": 16.0, "ap_m": 37.0, "ap_l": None}
        found = {key: value if value is None else value + better for key, value in values.items()}
        write_json(self.folder.metrics, {"parameters": 44_000_000, **found})

    monkeypatch.setattr(Training, "carry_out", carry_out)
    monkeypatch.setattr(reproduce, "save_predictions", lambda runs, path: drawn.append((list(runs), path.stem)))

    def run(*words):
        assert main(["reproduce", "table12", "--output", str(tmp_path), "--rows", "nearest,resfu", *words]) == 0
        return json.loads((tmp_path / "table12.json").read_text()), calls, drawn

    return run


def test_published_beside_measured(table, capsys):
    content, calls, drawn = table("--root", "coco")
    assert [name for name, _ in calls] == [f"{host}_{name}_coco" for host in SMALL for name in ("nearest", "resfu")]
    assert {settings["data"]["root"] for _, settings in calls} == {"coco"}
    rows = {(row["host"], row["label"]): row for row in content["rows"]}
    assert list(rows) == [(h, u) for h in ("mask-rcnn-resnet50", "panoptic-fpn-resnet50") for u in ("nearest", "resfu")]
    mask, panoptic = (rows[host, "resfu"] for host in ("mask-rcnn-resnet50", "panoptic-fpn-resnet50"))
    assert mask["published"]["mask_ap"] == 36.1
    assert mask["measured"]["mask_ap"]["mean"] == 35.0
    assert mask["gain"]["published"]["mask_ap"] == pytest.approx(1.4)
    assert mask["gain"]["measured"]["mask_ap"]["mean"] == pytest.approx(1)
    assert "ap_l" not in mask["measured"]  # there was nothing to find
    assert panoptic["gain"]["measured"]["pq_stuff"]["mean"] == pytest.approx(1)
    assert drawn == [(["nearest", "resfu"], "mask-rcnn-resnet50"), (["nearest", "resfu"], "panoptic-fpn-resnet50")]
    said = capsys.readouterr().out
    assert "PQ" in said
    assert "stuff" in said


def test_at_a_small_scale_it_is_a_comparison_for_each_network(tmp_path, monkeypatch, capsys):
    begun = []

    def compare(comparison, output, console):
        begun.append((comparison, output))
        keys = [score.key for task in ("instances", "panoptic") for score in TASKS[task].module.scores]
        runs = [
            {"upsampler": name, "seed": seed, "metrics": {**dict.fromkeys(keys, place + 10.0 * seed), "ap75": None}}
            for place, name in enumerate(comparison.upsamplers)
            for seed in comparison.seeds
        ]
        cost = {name: {"parameters": 1000 + place} for place, name in enumerate(comparison.upsamplers)}
        return {"runs": runs, "cost": cost}

    monkeypatch.setattr(reproduce, "compare", compare)
    words = ["reproduce", "table12", "--scale", "small", "--rows", "nearest,resfu", "--seeds", "2", "--steps", "7"]
    assert main([*words, "--output", str(tmp_path)]) == 0
    assert [(each.recipe, output) for each, output in begun] == [
        ("scenes-instances", tmp_path / "instances"),
        ("scenes-panoptic", tmp_path / "panoptic"),
    ]
    for each, _ in begun:
        assert (each.upsamplers, each.seeds) == (("nearest", "resfu"), (0, 1))
        assert each.settings["trainer"]["max_steps"] == 7
        assert (each.settings["data"]["dataset"], each.settings["model"]["pretrained"]) == ("scenes", True)
    content = json.loads((tmp_path / "table12.json").read_text())
    assert [each["recipe"] for each in content["settings"]["comparisons"]] == list(SMALL.values())
    rows = {(row["host"], row["label"]): row for row in content["rows"]}
    mask, panoptic = (rows[host, "resfu"] for host in SMALL)
    assert (
        mask["measured"]["mask_ap"]
        == panoptic["measured"]["pq"]
        == {"mean": 6.0, "std": pytest.approx(50**0.5), "n": 2}
    )
    assert mask["gain"]["measured"]["ap50"] == {"mean": 1.0, "std": 0.0, "n": 2}
    assert mask["gain"]["measured"]["ap_s"] == {"mean": 1.0, "std": 0.0, "n": 2}
    assert "ap75" not in mask["measured"]
    assert mask["measured"]["parameters"] == 1001
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "mask-rcnn-efficientnet-lite0 on scenes-instances and panoptic-fpn-efficientnet-lite0 on scenes-panoptic"
        in said
    )


def test_a_small_dry_run_prints_the_comparisons(tmp_path, capsys):
    words = ["reproduce", "table12", "--scale", "small", "--rows", "nearest,resfu", "--dry-run", "--output", "OUT"]
    assert main([*words, "--root", "CACHE", "--finetune", "--seeds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"resfu compare --recipe {recipe} --upsamplers nearest,resfu --seeds 0,1, --output OUT/{folder} "
        "--data.root CACHE --model.freeze_encoder false"
        for recipe, folder in (("scenes-instances", "instances"), ("scenes-panoptic", "panoptic"))
    ]


def test_the_commands_of_a_dry_run_begin_what_it_names(monkeypatch, capsys):
    begun = []
    words = ["reproduce", "table6", "--scale", "small", "--output", "OUT", "--lr", "0.02", "--crop", "32x48"]
    words += ["--data.options.size", "[64, 64]", "--model.upsampler_options", "null"]
    assert main([*words, "--dry-run"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    monkeypatch.setattr("resfu.compare.run.compare", lambda comparison, output, *_: begun.append((comparison, output)))
    assert main(shlex.split(line)[1:]) == 0
    compared = {"runs": [], "cost": {}}
    monkeypatch.setattr(
        reproduce, "compare", lambda comparison, output, console: begun.append((comparison, str(output))) or compared
    )
    monkeypatch.setattr(reproduce, "_report", lambda *others: None)
    assert main(words) == 0
    (by_hand, place), (by_itself, other) = begun
    assert by_hand.to_dict() == by_itself.to_dict()
    assert place == other == "OUT"
    assert by_hand.settings["model"]["optimisation"]["learning_rate"] == pytest.approx(0.002)


def test_one_rate_for_networks_whose_heads_learn_differently_is_refused(tmp_path, capsys):
    assert main(["reproduce", "table3", "--lr", "0.1", "--output", str(tmp_path / "out")]) == 2
    assert "--lr is for --scale small" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
