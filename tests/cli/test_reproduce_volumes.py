"""`resfu reproduce table10 table11`: Dice and HD95 beside the published ones, at a tiny scale."""

import json

import pytest
from rich.console import Console

import resfu.hosts
from resfu.cli import main
from resfu.compare.reproduce.rows import VOLUME_TABLES, recipe_name, row_name, select_rows
from resfu.compare.reproduce.side_by_side import records, table
from resfu.compare.reproduce.trainings import Training, measured
from resfu.tasks.run import RunFolder
from tests.support.medical_fixtures import write_medical_fixture

TINY = "--crop 32 --batch-size 2 --steps 1 --workers 0 --model.pretrained false --model.host_options null"
TINY += " --trainer.accelerator cpu --trainer.val_check_interval 1 --trainer.log_every_n_steps 1"


def test_the_rows_have_trainings_of_their_own():
    rows = select_rows(VOLUME_TABLES)
    assert len({row_name(row) for row in rows}) == 14
    assert row_name(rows[5]) == "transunet-r50-vit-b16_dysample+style=pl_synapse"
    assert recipe_name(rows[5]) == "transunet-r50-vit-b16_synapse"


def test_published_and_measured_stand_side_by_side(tmp_path, monkeypatch, capsys):
    root = write_medical_fixture("acdc", tmp_path / "acdc", count=1, size=(2, 32, 32))
    small = resfu.hosts.HOSTS["efficientnet-lite0"]
    monkeypatch.setitem(resfu.hosts.HOSTS, "transunet-r50-vit-b16", small)
    words = ["reproduce", "table11", "--rows", "bilinear,resfu", "--root", str(root), *TINY.split()]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("Dice", "HD95", "89.71", "90.04", "1.82", "(+0.33)", "(-0.36)"))
    bilinear, ours = json.loads((tmp_path / "out" / "table11.json").read_text())["rows"]
    run = tmp_path / "out" / "runs" / "transunet-r50-vit-b16_resfu_acdc-seed0" / "metrics.json"
    metrics = json.loads(run.read_text())
    assert ours["measured"]["dice"]["mean"] == metrics["dice"]
    assert ours["measured"]["hd95"]["mean"] == metrics["hd95"]
    assert ours["gain"]["measured"]["hd95"]["mean"] == pytest.approx(
        metrics["hd95"] - bilinear["measured"]["hd95"]["mean"]
    )
    assert ours["published"]["myo"] == 85.16


ROW = select_rows((11,), ["bilinear"])[0]


def finished(folder, seed, content):
    """A training of that row with what it measured."""
    training = Training(row_name(ROW), ROW, RunFolder(folder / str(seed)), seed)
    training.folder.path.mkdir()
    training.folder.metrics.write_text(json.dumps({"parameters": 7, **content}))
    return training


def test_measurements_have_the_names_of_the_published_tables(tmp_path):
    trainings = [
        finished(tmp_path, seed, {"dice": dice, "hd95": distance, "dice_by_class": [dice], "hd95_by_class": [distance]})
        for seed, (dice, distance) in enumerate([(80.0, 3.0), (82.0, 4.0)])
    ]
    found = measured(ROW, trainings)
    assert found is not None
    assert {key: spread.values for key, spread in found.metrics.items()} == {"dice": (80, 82), "hd95": (3, 4)}
    assert found.metrics.keys() <= ROW.metrics.keys()


def test_a_total_failure_has_no_distance_beside_the_published_convention(tmp_path, capsys):
    content = {"dice": 0.0, "hd95": 0.0, "hd95_found": None, "missed": 12, "missed_by_class": [3, 4, 5]}
    found = measured(ROW, [finished(tmp_path, 0, content)])
    rows = records([ROW], lambda row: found)
    assert rows[0]["measured"]["hd95"]["mean"] == 0
    assert "hd95_found" not in rows[0]["measured"]
    assert rows[0]["measured"]["missed"]["mean"] == 12
    Console(width=140).print(table(rows, "Table 11"))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "measured 0.00 0.00 - 12.00 0.00" in lines
    assert any("HD95 missed" in line for line in lines)


def test_at_small_scale_it_compares_on_procedural_scans(tmp_path, capsys):
    words = ["reproduce", "table10", "--scale", "small", "--rows", "bilinear,resfu", "--output", str(tmp_path / "out")]
    small = ["--data.options", "{size: [4, 32, 32]}", "--data.train_options", "{count: 1}", "--steps", "1"]
    small += ["--data.eval_options", "{count: 1}", "--batch-size", "2", "--model.schedule.warmup_steps", "0"]
    assert main([*words, *small, "--data.root", str(tmp_path / "cache"), "--crop", "32"]) == 0
    assert "transunet-small on ct" in " ".join(capsys.readouterr().out.split())
    rows = json.loads((tmp_path / "out" / "table10.json").read_text())["rows"]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert rows[1]["measured"]["dice"] == results["summary"]["resfu"]["dice"]
    assert rows[1]["measured"]["missed"] == results["summary"]["resfu"]["missed"]
