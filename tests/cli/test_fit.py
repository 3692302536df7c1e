"""`resfu fit`, `validate`, `test` and `predict`, as their users call them."""

import subprocess
import sys

import pytest
import torch
import yaml
from PIL import Image

from resfu.cli import main
from resfu.data import DATASETS
from resfu.tasks.experiment import Experiment
from resfu.tasks.loading import checkpoint_settings
from tests.support.published import losses


def test_a_run_leaves_its_files(place):
    run = place / "run"
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert [step for step, _ in losses(run)] == [0, 1]
    assert list((run / "logs" / "version_0").glob("events.out.tfevents.*"))
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["model"]["host"] == "segformer-mit-b0"
    assert saved["model"]["optimisation"]["learning_rate"] == 6e-5  # defaults are written out


def test_a_resumed_run_repeats_the_uninterrupted_one(place):
    tiny = ["fit", "--recipe", str(place / "tiny.yaml")]
    assert main([*tiny, "--run", str(place / "whole"), "--trainer.max_steps", "4"]) == 0
    resumed = ["--run", str(place / "run"), "--checkpoint", "last"]
    # From the configuration that the run saved, so that the two belong together.
    assert main(["fit", "--config", str(place / "run" / "config.yaml"), *resumed, "--trainer.max_steps", "4"]) == 0
    first, second = (losses(place / "run", i) for i in (0, 1))
    assert [step for step, _ in second] == [2, 3]
    assert first + second == losses(place / "whole")


def test_a_refused_resume_leaves_the_configuration_and_another_one_a_whole_one(place, tmp_path, capsys):
    run = tmp_path / "run"
    file = run / "config.yaml"
    words = ["fit", "--recipe", str(place / "tiny.yaml"), "--run", str(run)]
    assert main(words) == 0
    before = file.read_text()
    words += ["--checkpoint", "last"]
    words += [
        "--trainer.max_steps",
        "3",
        "--trainer.val_check_interval",
        "3",
        "--trainer.check_val_every_n_epoch",
        "null",
    ]
    assert main([*words, "--model.upsampler", "resfu"]) == 2
    assert "the checkpoint does not fit the network" in capsys.readouterr().err
    assert file.read_text() == before
    assert main([*words, "--model.pretrained", "mine.pth"]) == 0
    saved = yaml.safe_load(file.read_text())
    assert saved.keys() == {"seed_everything", "save_every", "model", "data", "trainer"}  # a recipe
    assert saved["model"]["pretrained"] == "mine.pth"  # what the run began with
    # Validation after more batches than an epoch has goes with null alone.
    again = ["fit", "--config", str(file), "--run", str(tmp_path / "new"), "--model.pretrained", "false"]
    assert main(again) == 0
    assert [step for step, _ in losses(tmp_path / "new")] == [0, 1, 2]


def test_a_finished_run_says_so(place, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["fit", "--recipe", str(place / "tiny.yaml"), "--run", str(run)]
    assert main(words) == 0
    words += ["--checkpoint", "last"]
    assert main(words) == 0
    assert f"nothing to do: {run / 'checkpoints' / 'last.ckpt'} is at the last step (2)" in capsys.readouterr().out
    assert main([*words, "--trainer.max_steps", "3"]) == 0
    assert "nothing to do" not in capsys.readouterr().out


def test_a_run_is_not_overwritten(place, capsys):
    assert main(["fit", "--recipe", str(place / "tiny.yaml"), "--run", str(place / "run")]) == 2
    assert "holds a run already: resume it with --checkpoint last" in capsys.readouterr().err


def test_measuring_needs_only_the_checkpoint(place, capsys):
    options = ["--run", str(place / "run"), "--checkpoint", "best", "--trainer.accelerator", "cpu"]
    assert main(["validate", *options]) == 0
    assert "val/miou" in capsys.readouterr().out
    assert main(["test", *options]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in DATASETS["scenes"].classes)
    assert "test/biou" in out
    assert not (place / "run" / "logs" / "version_2").exists()
    assert "pixels right:" in out


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("model: {hots: x}", "unknown key model.hots"),
        ("model: {optimisation: {learning_rat: 1}}", "unknown key model.optimisation.learning_rat"),
        ("modl: {host: x}", "unknown key modl"),
        ("trainer: {max_step: 3}", "unknown key trainer.max_step"),
        ("data: {batch_size: two}", "data.batch_size: Expected a <class 'int'>. Got value: two"),
        ("model: {optimisation: {method: lion}}", "model.optimisation.method: Expected a .*'adamw', 'sgd'.*lion"),
        ("model: {optimisation: {learning_rate: -1}}", "optimisation.learning_rate must be above 0, got -1"),
        ("model: {host: segformer}", "unknown host 'segformer'; choose one of segformer-mit-b0"),
        ("model: {upsampler: cubic}", "unknown upsampler 'cubic'; choose (one of|from) nearest"),
        ("data: {dataset: cityscape}", "unknown dataset 'cityscape'; choose one of .*camvid"),
        ("data: {options: {sice: 3}}", "no option sice"),
        ("model: [", r"wrong\.yaml is not a YAML file: while parsing"),
        ("", r"wrong\.yaml holds nothing; expected the settings"),
        ("- model", r"wrong\.yaml holds a list; expected the settings"),
        ("base: missing.yaml", "base.* must be a list of files"),
        ("base: [missing.yaml]", r"builds on .*missing\.yaml, which is not there"),
    ],
)
def test_a_wrong_configuration_is_one_line(place, tmp_path, capsys, content, line):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(content)
    run = tmp_path / "run"
    assert main(["fit", "--recipe", str(place / "tiny.yaml"), "--recipe", str(wrong), "--run", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(AssertionError, match=line):
        raise AssertionError(error)
    assert not run.exists()


def test_missing_files_and_data(place, tmp_path, capsys):
    run = ["--run", str(tmp_path / "run")]
    camvid = ["--data.dataset", "camvid", "--data.root", str(tmp_path / "camvid"), "--trainer.accelerator", "cpu"]
    for words, parts in (
        (["fit", "--recipe", str(tmp_path / "no.yaml")], ["there is no recipe", "no.yaml"]),
        (["fit", *camvid, *run, "--trainer.max_steps", "1"], ["camvid", "Get CamVid from"]),
        (["fit", "--recipe", str(place / "tiny.yaml"), *run, "--checkpoint", "last"], ["there is no checkpoint"]),
        (["fit", *run], ["how long to train", "--recipe scenes, or --steps N"]),
        (["test", *run], ["which network? Give --checkpoint"]),
        (["test", "--checkpoint", "last"], ["--checkpoint last is one of a run: give its folder by --run"]),
        (["predict", "x.png", "--checkpoint", str(place / "tiny.yaml")], ["tiny.yaml is not a checkpoint"]),
        (["predict", "--checkpoint", str(place / "run" / "checkpoints" / "last.ckpt")], ["required: FILE"]),
        (
            ["predict", "x.png", "--checkpoint", str(place / "run")],
            [f"{place / 'run'} holds {place / 'run'}/checkpoints"],
        ),
        (["fit", "--recipe", str(place / "tiny.yaml"), "--frobnicate", "3"], ["arguments: --frobnicate 3"]),
        (["fit", "--recipe", str(place / "tiny.yaml"), *run, "--upsampler", "cubist"], ["unknown upsampler 'cubist'"]),
    ):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert all(part in error for part in parts), error
        assert error.count("\n") == 1


def test_what_damaged_files_lead_to_is_kept_for_measuring_and_not_for_prediction(place, monkeypatch, tmp_path):
    checkpoint = place / "run" / "checkpoints" / "last.ckpt"
    assert checkpoint_settings(checkpoint)["data"]["on_error"] == "skip"
    seen = {}
    monkeypatch.setattr(
        "resfu.cli.apply._run",
        lambda experiment, action, *others, **options: seen.update({action: experiment.settings["data"]["on_error"]}),
    )
    monkeypatch.setattr("resfu.tasks.label_map_files.LabelMapWriter.folder", None, raising=False)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert main(["test", "--checkpoint", str(checkpoint)]) == 0
    assert main(["predict", str(tmp_path / "a.png"), "--checkpoint", str(checkpoint)]) == 0
    assert seen == {"test": "skip", "predict": "raise"}


def test_an_error_in_a_worker_is_still_one_line(place, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    words = ["predict", str(tmp_path / "bad.png"), "--checkpoint", str(place / "run" / "checkpoints" / "last.ckpt")]
    words += ["--output", str(tmp_path / "out"), "--data.num_workers", "1", "--trainer.enable_progress_bar", "false"]
    assert main([*words, "--trainer.accelerator", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("resfu: cannot read the image")
    assert error.count("\n") == 1


def test_the_error_of_a_real_process(place, tmp_path):
    words = ["fit", "--recipe", str(place / "tiny.yaml"), "--model.hots", "x"]
    done = subprocess.run(
        [sys.executable, "-m", "resfu", *words], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "resfu: unknown key model.hots; did you mean model.host?\n"
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_signal_ends_the_command_as_an_interrupt(place, tmp_path, monkeypatch, capsys):
    """Lightning ends on SIGTERM as if all had gone well, and `reproduce` would measure what was cut."""

    def stopped(self, trainer, *others):
        if trainer.global_step == 1:
            raise SystemExit

    monkeypatch.setattr("resfu.training.progress.TrainingProgress.on_train_batch_end", stopped)
    words = ["fit", "--recipe", str(place / "tiny.yaml"), "--run", str(tmp_path / "run"), "--save_every", "1"]
    assert main([*words, "--trainer.enable_progress_bar", "true"]) == 130
    error = capsys.readouterr().err
    assert "interrupted" in error


def test_after_ctrl_c_the_way_on_is_said(place, tmp_path, monkeypatch, capsys):
    from resfu.training.last_checkpoint import LastCheckpoint

    saved = LastCheckpoint.on_train_batch_end

    def interrupt(self, trainer, *others):
        saved(self, trainer, *others)
        raise KeyboardInterrupt

    run = tmp_path / "run"
    words = ["fit", "--recipe", str(place / "tiny.yaml"), "--run", str(run)]
    with monkeypatch.context() as patch:
        patch.setattr(LastCheckpoint, "on_train_batch_end", interrupt)
        assert main([*words, "--save_every", "1"]) == 130
    wanted = f"interrupted: `resfu fit --run {run} --checkpoint last` goes on from the last checkpoint"
    assert wanted in capsys.readouterr().err
    assert main(["fit", "--run", str(run), "--checkpoint", "last"]) == 0  # by the settings in the folder
    assert [step for step, _ in losses(run, 1)] == [1]


def test_its_closing_words_say_where_results_are(place, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["fit", "--recipe", str(place / "tiny.yaml"), "--run", str(run)]
    assert main([*words, "--trainer.limit_val_batches", "0"]) == 0
    out = capsys.readouterr().out
    assert f"results: {run / 'checkpoints' / 'last.ckpt'}\n" in out
    assert "there was no validation, so there is no best.ckpt" in out
    checkpoints = run / "checkpoints"
    assert main([*words, "--checkpoint", "last", "--trainer.max_steps", "4"]) == 0
    out = capsys.readouterr().out
    assert f"results: {checkpoints / 'last.ckpt'}, {checkpoints / 'best.ckpt'}\n" in out
    assert "no best.ckpt" not in out


def test_upsampler_seed_and_short_options(place, monkeypatch):
    begun = []
    monkeypatch.setattr("resfu.cli.fit._train", lambda options, settings, given: begun.append(settings) or 0)
    words = ["fit", "--recipe", str(place / "tiny.yaml"), "--upsampler", "resfu+groups=2", "--seed", "7"]
    assert main([*words, "--steps", "9", "--lr", "0.01", "--crop", "16"]) == 0
    settings = Experiment(*begun[0]).settings
    model = settings["model"]
    assert (model["upsampler"], model["upsampler_options"]) == ("resfu", {"groups": 2})
    assert (settings["seed_everything"], settings["trainer"]["max_steps"]) == (7, 9)
    assert (model["optimisation"]["learning_rate"], settings["data"]["crop_size"]) == (0.01, (16, 16))
    assert main(["fit", "--config", "ct", "-c", "cardiac"]) == 0  # the old names; the later takes precedence
    assert Experiment(*begun[1]).settings["data"]["dataset"] == "cardiac"
    assert main(["fit", "ct", "--recipe", "cardiac"]) == 0  # the first word is a recipe
    assert main(["fit", "--recipe", "ct"]) == main(["fit", "ct"]) == 0
    assert begun[2] == begun[1]
    assert begun[3] == begun[4]


def test_own_data_and_an_own_network(tmp_path, capsys):
    words = ["--model.host", "tests.support.own:own_host", "--data.dataset", "tests.support.own:OwnData"]
    words += ["--upsampler", "resfu", "--steps", "2", "--batch-size", "2", "--crop", "32"]
    words += ["--model.host_options", "{width: 4}", "--trainer.val_check_interval", "2"]
    run = tmp_path / "run"
    assert main(["fit", *words, "--run", str(run), "--trainer.accelerator", "cpu"]) == 0
    assert main(["test", "--run", str(run), "--checkpoint", "best", "--trainer.accelerator", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "dark" in out
    assert "bright" in out
    options = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]
    assert (options["num_classes"], options["host_options"]) == (2, {"width": 4})
    assert main(["fit", *words, "--model.host", "tests.support.own:nothing", "--run", str(tmp_path / "b")]) == 2
    assert "the host 'tests.support.own:nothing' cannot be imported" in capsys.readouterr().err
