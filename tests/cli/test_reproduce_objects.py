"""`resfu reproduce table12`."""

import json
from pathlib import Path

import pytest
import torch

from resfu.cli import main, reproduce
from resfu.compare.reproduce import object_sheets

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


def test_small_puts_scenes_on_top_of_the_recipe(table):
    _, calls, _ = table("--scale", "small", "--seeds", "2", "--trainer.max_steps", "3")
    fits = [words for words in calls if words[0] == "fit"]
    assert len(fits) == 8
    for words in fits:
        recipe, over = (Path(words[place]) for place in (2, 4))
        assert recipe.stem.endswith("_coco")
        assert over == RECIPES / "base" / "scenes-objects.yaml"
        assert words[-2:] == ["--trainer.max_steps", "3"]


def test_not_with_other_tables_at_a_small_scale(tmp_path, capsys):
    words = ["reproduce", "table1", "table12", "--scale", "small", "--output", str(tmp_path)]
    assert main(words) == 2
    assert "table12 does not go with other tables" in capsys.readouterr().err
