"""`resfu reproduce table12`."""

import json
from pathlib import Path

import pytest
import torch

from resfu.cli import compare, main, reproduce
from resfu.compare.reproduce import object_sheets
from resfu.compare.reproduce.side_by_side import INSTANCE_METRICS, PANOPTIC_METRICS

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Run the command with a stand-in for `resfu fit` and `resfu test`; gives the table, and the words of both."""
    calls, drawn = [], []

    def carry_out(words):
        calls.append(words)
        if words[0] == "fit":
            last = Path(words[words.index("--run") + 1]) / "checkpoints" / "last.ckpt"
            last.parent.mkdir(parents=True)
            torch.save({"global_step": 3, "callbacks": {"LastCheckpoint": {"planned": 3}}}, last)
        if words[0] == "test":
            panoptic, better = "panoptic" in words[2], "_resfu_" in words[2]
            values = {"pq": 40.2, "pq_things": 47.8, "pq_stuff": 28.9, "sq": 77.8, "rq": 49.3}
            if not panoptic:
                values = {"mask_ap": 34.0, "ap50": 55.0, "ap75": 36.0, "ap_s": 16.0, "ap_m": 37.0, "ap_l": None}
            found = {key: value if value is None else value + better for key, value in values.items()}
            file = Path(words[words.index("--metrics") + 1])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"parameters": 44_000_000, **found}))
        return 0

    monkeypatch.setattr(reproduce, "command", carry_out)
    monkeypatch.setattr(object_sheets, "save_object_sheet", lambda runs, path: drawn.append((list(runs), path.stem)))

    def run(*words):
        base = ["reproduce", "table12", "--recipes", str(RECIPES), "--output", str(tmp_path)]
        assert main([*base, "--rows", "nearest,resfu", *words]) == 0
        return json.loads((tmp_path / "table12.json").read_text()), calls, drawn

    return run


def test_published_beside_measured(table, capsys):
    content, calls, drawn = table("--data.root", "coco")
    assert [words[0] for words in calls] == ["fit", "test"] * 4
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
    assert "PQst" in capsys.readouterr().out


SMALL = {
    "mask-rcnn-resnet50": "mask-rcnn-efficientnet-lite0",
    "panoptic-fpn-resnet50": "panoptic-fpn-efficientnet-lite0",
}


def test_at_a_small_scale_it_is_a_comparison_for_each_network(tmp_path, monkeypatch, capsys):
    begun = []

    def train(settings, options):
        begun.append((settings, options.output))
        keys = [key for kind in (INSTANCE_METRICS, PANOPTIC_METRICS) for key in kind]
        runs = [
            {"upsampler": name, "seed": seed, "metrics": {**dict.fromkeys(keys, place + 10.0 * seed), "ap_l": None}}
            for place, name in enumerate(settings.upsamplers)
            for seed in settings.seeds
        ]
        cost = {name: {"parameters": 1000 + place} for place, name in enumerate(settings.upsamplers)}
        return {"runs": runs, "cost": cost}

    monkeypatch.setattr(compare, "train", train)
    words = ["reproduce", "table12", "--scale", "small", "--rows", "nearest,resfu", "--seeds", "2", "--steps", "7"]
    assert main([*words, "--output", str(tmp_path)]) == 0
    assert [(settings.host, output) for settings, output in begun] == [
        (host, str(tmp_path / host)) for host in SMALL.values()
    ]
    for settings, _ in begun:
        assert (settings.upsamplers, settings.seeds, settings.steps) == (("nearest", "resfu"), (0, 1), 7)
        assert (settings.data, settings.pretrained) == ("scenes", True)
    content = json.loads((tmp_path / "table12.json").read_text())
    assert [each["host"] for each in content["settings"]["comparisons"]] == list(SMALL.values())
    rows = {(row["host"], row["label"]): row for row in content["rows"]}
    mask, panoptic = (rows[host, "resfu"] for host in SMALL)
    assert (
        mask["measured"]["mask_ap"]
        == panoptic["measured"]["pq"]
        == {"mean": 6.0, "std": pytest.approx(50**0.5), "n": 2}
    )
    assert mask["gain"]["measured"]["ap_s"] == {"mean": 1.0, "std": 0.0, "n": 2}
    assert "ap_l" not in mask["measured"]
    assert mask["measured"]["parameters"] == 1001
    said = " ".join(capsys.readouterr().out.split())
    assert "mask-rcnn-efficientnet-lite0 and panoptic-fpn-efficientnet-lite0 on scenes, 7 steps" in said


def test_a_small_dry_run_prints_the_comparisons(tmp_path, capsys):
    words = ["reproduce", "table12", "--scale", "small", "--rows", "nearest,resfu", "--dry-run", "--output", "OUT"]
    assert main([*words, "--data", "coco", "--data.root", "COCO"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"resfu compare --upsamplers nearest,resfu --seeds 0, --host {host} --data coco --root COCO --output OUT/{host}"
        for host in SMALL.values()
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table1", "table12"], "tables in mIoU and tables in mask AP and tables in PQ do not go together"),
        (
            ["table12", "--host", "mask-rcnn-resnet50"],
            "these tables are in PQ, which mask-rcnn-resnet50 on scenes is not measured in (mask AP): give another "
            "--host or --data, or other --rows.",
        ),
        (["table12", "--crop", "64"], "--crop mean nothing for mask-rcnn-efficientnet-lite0"),
    ],
)
def test_what_does_not_go_together_at_a_small_scale(words, message, tmp_path, capsys):
    assert main(["reproduce", *words, "--scale", "small", "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
