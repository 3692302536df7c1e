"""`resfu prepare` from the raw files to a dataset that opens."""

import json

import numpy as np
import pytest

from resfu.cli import main
from resfu.data import ACDC, Synapse
from resfu.data.medical.tally import Tally
from resfu.data.medical.writers import Case
from tests.support.medical_fixtures import write_medical_fixture

SIZE = (4, 40, 32)


@pytest.mark.parametrize("name", ["synapse", "acdc"])
def test_raw_files_become_a_dataset(name, tmp_path, capsys):
    raw = write_medical_fixture(f"{name}-nifti", tmp_path / "raw", count=1, size=SIZE)
    words = ["prepare", name, str(raw), str(tmp_path / "out"), "--splits", str(raw / "splits.json")]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'out'}\n"
    assert (
        captured.err.splitlines()
        == {
            "synapse": ["train: 1 volume, 4 slices", "test: 1 volume, 4 slices", "labelled: 8 of 8 classes"],
            "acdc": [
                *(f"{split}: 2 volumes, 8 slices" for split in ("train", "val", "test")),
                "labelled: 3 of 3 classes",
            ],
        }[name]
    )
    data = {"synapse": Synapse, "acdc": ACDC}[name]("test", tmp_path / "out")
    assert len(data) == {"synapse": 4, "acdc": 8}[name]
    assert main(words) == 2
    assert "holds something already" in capsys.readouterr().err


def test_labels_come_by_name_or_from_a_file(tmp_path, capsys):
    raw = write_medical_fixture("synapse-nifti", tmp_path / "raw", count=1, size=SIZE)
    (tmp_path / "splits.json").write_text(json.dumps({"test": [2]}), encoding="utf-8-sig")
    known = {str(number): int(number == 8) for number in range(14)}
    (tmp_path / "map.json").write_text(json.dumps(known), encoding="utf-8-sig")
    words = ["prepare", "synapse", str(raw), "--splits", str(tmp_path / "splits.json"), "--labels"]
    assert main([*words, str(tmp_path / "map.json"), str(tmp_path / "aorta")]) == 0
    assert main([*words, "btcv", str(tmp_path / "all")]) == 0
    aorta, organs = (Synapse("test", tmp_path / name) for name in ("aorta", "all"))
    for one, whole in zip(aorta, organs, strict=True):
        assert ((whole["label"] == 1).long() == one["label"]).all()
    assert main([*words, "transunet", str(tmp_path / "wrong")]) == 2
    assert "label0002.nii.gz holds the labels" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["synapse", "acdc"])
def test_what_is_refused_does_not_stand_in_the_way_of_the_corrected_command(name, tmp_path, capsys):
    raw = write_medical_fixture(f"{name}-nifti", tmp_path / "raw", count=1, size=SIZE)
    (tmp_path / "wrong.json").write_text('{"train": [1, 77]}')
    (tmp_path / "map.json").write_text('{"0": 0}')
    words = ["prepare", name, str(raw), str(tmp_path / "out"), "--splits"]
    assert main([*words, str(tmp_path / "wrong.json")]) == 2
    assert "0077" in capsys.readouterr().err.replace("patient077", "0077")
    assert not (tmp_path / "out").exists()
    right = [*words, str(raw / "splits.json")]
    assert main([*right, "--labels", str(tmp_path / "map.json")]) == 2
    assert "holds the labels" in capsys.readouterr().err
    assert main(right) == 0


@pytest.mark.parametrize("name", ["synapse", "acdc"])
def test_a_scan_that_is_damaged_leaves_nothing_of_the_others(name, tmp_path, capsys):
    raw = write_medical_fixture(f"{name}-nifti", tmp_path / "raw", count=1, size=SIZE)
    last = sorted(raw.rglob("*.nii.gz"))[-1]
    last.write_bytes(last.read_bytes()[:200])
    words = ["prepare", name, str(raw), str(tmp_path / "out"), "--splits", str(raw / "splits.json")]
    assert main(words) == 2
    assert last.name in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_no_scan_has_is_named():
    tally = Tally(["background", "aorta", "liver", "spleen"])
    tally.add(Case("test", 1, np.zeros((1, 2, 2), np.float32), np.full((1, 2, 2), 2, np.uint8)))
    assert tally.lines() == ["test: 1 volume, 1 slice", "labelled: 1 of 3 classes; none has aorta, spleen"]


def test_wrong_words_are_one_line(tmp_path, capsys):
    (tmp_path / "a.json").write_text("[1, 2")
    (tmp_path / "b.json").write_text("[1, 2]")
    (tmp_path / "e.json").write_bytes(b"\x89PNG\xff")
    (tmp_path / "d.json").write_text('{"train": 5}')
    words = ["prepare", "acdc", str(tmp_path), str(tmp_path / "out")]
    for more, message in (
        (["--flip"], "--flip belongs to synapse"),
        (["--splits", str(tmp_path / "a.json")], "a.json is not JSON"),
        (["--splits", str(tmp_path / "e.json")], "e.json is not JSON"),
        (["--labels", str(tmp_path / "b.json")], "b.json must hold a map from stored ids"),
        (["--labels", str(tmp_path / "c.json")], "c.json"),
        (["--labels", "btcv"], "to the classes 0..3"),
        (["--splits", str(tmp_path / "b.json")], "lists of case numbers by split, got [1, 2]"),
        (["--splits", str(tmp_path / "d.json")], "lists of case numbers by split, got {'train': 5}"),
        ([], "no folder patient001"),
    ):
        assert main([*words, *more]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
