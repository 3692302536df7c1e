import json
import re

import pytest

import resfu.compare.run as module
from resfu.cli import main
from resfu.compare.run import Record


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("scenes"))
    small = "--size 64 --train-images 4 --val-images 2 --steps 3 --batch-size 2 --pictures 1 --threads 1"
    return ["compare", "--upsamplers", "bilinear,resfu", "--root", root, "--no-pretrained", *small.split()]


def test_interrupted_and_called_again_it_finishes_without_repeating(words, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    monkeypatch.setattr(module, "CHECKPOINT_EVERY", 1)
    saved = Record.on_train_batch_end

    def interrupt(self, trainer, *others):
        saved(self, trainer, *others)
        if "resfu" in str(self.folder.path) and trainer.global_step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Record, "on_train_batch_end", interrupt)
        assert main([*words, "--output", str(output)]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    finished = output / "runs" / "bilinear-seed0" / "metrics.json"
    written = finished.stat().st_mtime_ns
    assert not (output / "runs" / "resfu-seed0" / "metrics.json").exists()
    assert not (output / "results.json").exists()

    assert main([*words, "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "bilinear, seed 0: finished before" in said
    assert "resfu, seed 0: goes on" in said
    assert re.search(r"bilinear +\d+\.\d\d", said)
    assert finished.stat().st_mtime_ns == written

    results = json.loads((output / "results.json").read_text())
    assert [(run["upsampler"], run["seed"]) for run in results["runs"]] == [("bilinear", 0), ("resfu", 0)]
    assert results["settings"]["crop"] == [64, 64]
    assert results["images"] == 2
    for run in results["runs"]:
        assert [step for step, _ in run["curves"]["loss"]] == [1, 2, 3]
        assert len(run["iou"]) == len(results["classes"]) == 16
        summary = results["summary"][run["upsampler"]]["miou"]
        assert summary == {"mean": run["metrics"]["miou"], "std": None, "n": 1}
    assert results["versions"]["torch"]
    table = (output / "table.md").read_text()
    assert "| bilinear |" in table
    assert "| resfu |" in table
    assert "data:image/png;base64," in (output / "report.html").read_text()
    assert len(list((output / "sheets").glob("*.png"))) == 1

    # Another setting in the same folder is refused by name; another seed or upsampler is welcome.
    assert main([*words, "--output", str(output), "--lr", "0.5"]) == 2
    assert "learning_rate was 0.0006 and is 0.5" in capsys.readouterr().err
    assert finished.stat().st_mtime_ns == written
    assert main([*words, "--output", str(output), "--seeds", "0,1", "--upsamplers", "nearest,bilinear"]) == 0
    assert finished.stat().st_mtime_ns == written
    table = json.loads((output / "results.json").read_text())["summary"]
    assert list(table) == ["nearest", "bilinear"]
    assert table["bilinear"]["miou"]["n"] == 2
    assert table["bilinear"]["miou"]["std"] is not None


def test_an_output_folder_that_cannot_be_written_ends_it_at_once(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("resfu.compare.runner.run", None)  # no training may begin
    (tmp_path / "file").touch()
    assert main([*words, "--output", str(tmp_path / "file" / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot write to the output folder" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--upsamplers", "bilinear,cubist"], "unknown upsampler 'cubist'; choose from"),
        (["--upsamplers", ","], "no upsampler given"),
        (["--seeds", "0"], "at least 1, got '0'"),
        (["--seeds", "1,1"], "each only once"),
        (["--seeds", "x"], "argument --seeds: .*'x'"),
        (["--steps", "0"], "--steps: expected a whole number of at least 1"),
        (["--size", "64x"], "argument --size: expected N or HxW.*got '64x'"),
        (["--data", "moon"], "invalid choice: 'moon'"),
        (["--data", "camvid", "--size", "64"], "--size shape generated scenes"),
        (["--lr", "0"], "lr must be above 0, got 0"),
        (["--difficulty", "2"], "difficulty must be 0 to 1"),
        (["--finetune", "--freeze-encoder"], "not allowed with"),
    ],
)
def test_bad_options_end_with_a_line_that_says_so(words, tmp_path, capsys, options, message):
    begin = words[:1] if "camvid" in options else words
    assert main([*begin, "--output", str(tmp_path / "out"), *options]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out" / "settings.json").exists()  # the corrected command is welcome there


@pytest.mark.parametrize(("data", "source"), [("camvid", "Get CamVid"), ("ade20k", "Get ADEChallengeData2016")])
def test_a_missing_data_folder_is_named(tmp_path, capsys, data, source):
    root = tmp_path / "nothing"
    assert main(["compare", "--data", data, "--root", str(root), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert str(root) in error
    assert source in error
