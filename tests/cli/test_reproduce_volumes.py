"""`resfu reproduce table10 table11`: Dice and HD95 beside the published ones, at a tiny scale."""

import json
import re

import pytest
import torch
import yaml
from rich.console import Console

import resfu.cli.reproduce as module
from resfu.cli import main
from resfu.compare.reproduce.rows import VOLUME_TABLES, recipe_name, select_rows
from resfu.compare.reproduce.side_by_side import records, table
from resfu.compare.reproduce.trainings import Training, measured
from tests.support.medical_fixtures import write_medical_fixture

RECIPE = {
    "model": {"host": "efficientnet-lite0", "upsampler": "bilinear", "freeze_encoder": True},
    "data": {"dataset": "acdc", "augmentation": "slice", "crop_size": [32, 32], "batch_size": 2},
    "trainer": {
        "accelerator": "cpu",
        "max_steps": 1,
        "val_check_interval": 1,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
    },
}


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch):
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # Lightning's seeding writes there
    with torch.random.fork_rng(devices=[]):
        yield


def test_the_rows_have_recipes_of_their_own():
    names = [recipe_name(row) for row in select_rows(VOLUME_TABLES)]
    assert len(set(names)) == 14
    assert names[5] == "transunet-r50-vit-b16_dysample_synapse"  # no ablation, though it has options


def test_published_and_measured_stand_side_by_side(tmp_path, monkeypatch, capsys):
    root = write_medical_fixture("acdc", tmp_path / "acdc", count=1, size=(2, 32, 32))
    (tmp_path / "recipes").mkdir()
    for upsampler in ("bilinear", "resfu"):
        RECIPE["model"]["upsampler"] = upsampler
        file = tmp_path / "recipes" / f"transunet-r50-vit-b16_{upsampler}_acdc.yaml"
        file.write_text(yaml.safe_dump(RECIPE))
    monkeypatch.setattr(module, "command", main)
    words = ["reproduce", "table11", "--rows", "bilinear,resfu", "--recipes", str(tmp_path / "recipes")]
    assert main([*words, "--data.root", str(root), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("Dice", "HD95", "89.71", "90.04", "1.82", "(+0.33)", "(-0.36)"))
    bilinear, resfu = json.loads((tmp_path / "out" / "table11.json").read_text())["rows"]
    run = tmp_path / "out" / "runs" / "transunet-r50-vit-b16_resfu_acdc-seed0" / "metrics.json"
    metrics = json.loads(run.read_text())
    assert resfu["measured"]["mean_dice"]["mean"] == metrics["mdice"]
    assert resfu["measured"]["hd95"]["mean"] == metrics["mhd95"]
    assert resfu["gain"]["measured"]["hd95"]["mean"] == pytest.approx(
        metrics["mhd95"] - bilinear["measured"]["hd95"]["mean"]
    )
    assert resfu["published"]["myo"] == 85.16


def test_measurements_have_the_names_of_the_published_tables(tmp_path):
    trainings = []
    for seed, (dice, distance) in enumerate([(80.0, 3.0), (82.0, 4.0)]):
        trainings.append(Training("a", tmp_path / "a.yaml", tmp_path / str(seed), seed))
        trainings[-1].folder.mkdir()
        content = {"parameters": 7, "mdice": dice, "mhd95": distance, "dice": [dice], "hd95": [distance]}
        trainings[-1].metrics.write_text(json.dumps(content))
    found = measured("a", trainings)
    assert found is not None
    assert {key: spread.values for key, spread in found.metrics.items()} == {"mean_dice": (80, 82), "hd95": (3, 4)}


def test_a_total_failure_has_no_distance_beside_the_published_convention(tmp_path, capsys):
    failed = Training("a", tmp_path / "a.yaml", tmp_path / "0", 0)
    failed.folder.mkdir()
    content = {"parameters": 7, "mdice": 0.0, "mhd95": 0.0, "mhd95_found": None, "missed": [3, 4, 5]}
    failed.metrics.write_text(json.dumps(content))
    found = measured("a", [failed])
    rows = records(select_rows((11,), ["bilinear"]), lambda row: found)
    assert rows[0]["measured"]["hd95"]["mean"] == 0
    assert "hd95_found" not in rows[0]["measured"]
    assert rows[0]["measured"]["missed"]["mean"] == 12
    Console(width=140).print(table(rows, "Table 11"))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "measured 0.00 0.00 - 12.00 0.00" in lines
    assert any("HD95 of found organs missed organs" in line for line in lines)


def test_at_small_scale_it_compares_on_procedural_scans(tmp_path, capsys):
    words = ["reproduce", "table10", "--scale", "small", "--rows", "bilinear,resfu", "--output", str(tmp_path / "out")]
    small = (
        "--volume-size 4x32x32 --train-images 1 --val-images 1 --steps 1 --batch-size 2 --pictures 1 --validations 1"
    )
    assert main([*words, *small.split(), "--data.root", str(tmp_path / "cache")]) == 0
    assert "transunet-small on ct" in " ".join(capsys.readouterr().out.split())
    rows = json.loads((tmp_path / "out" / "table10.json").read_text())["rows"]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert rows[1]["measured"]["mean_dice"] == results["summary"]["resfu"]["dice"]
    assert rows[1]["measured"]["missed"] == results["summary"]["resfu"]["missed"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["table10", "--scale", "small", "--data", "scenes"],
            "in Dice, which efficientnet-lite0 on scenes is not measured in",
        ),
        (["table3", "table10", "--scale", "small"], "do not go together"),
    ],
)
def test_bad_words_end_with_a_line_that_says_so(tmp_path, capsys, given, message):
    assert main(["reproduce", *given, "--output", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
