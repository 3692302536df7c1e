"""What `resfu fit` leaves on the disk when it fails, is killed, diverges, or is called twice."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from resfu import create_host
from resfu.cli import main
from resfu.files.lock import LOCK, locked
from resfu.training.checkpoint_files import read_checkpoint
from resfu.training.divergence import not_finite
from resfu.training.last_checkpoint import read_progress


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch):
    """Lightning's seeding writes into the environment and moves the generators."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    content = {
        "model": {"host": "segformer-mit-b0", "upsampler": "bilinear", "schedule": {"warmup_steps": 20}},
        "data": {
            "dataset": "scenes",
            "root": str(folder / "cache"),
            "options": {"size": [32, 32]},
            "train_options": {"count": 4},
            "eval_options": {"count": 1},
            "crop_size": [32, 32],
        },
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 100_000,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
        },
    }
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(content))
    # What other packages say when they are first imported is not counted by the tests below.
    create_host("segformer-mit-b0", num_classes=2)
    return str(file)


def fit(recipe, run, *words):
    return ["fit", "--config", recipe, "--run", str(run), "--save_every", "1", *words]


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


@pytest.fixture(scope="module")
def checkpoint(recipe, tmp_path_factory):
    """The checkpoint of a run of one step."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
            patch.setenv(name, "0")
        assert main(fit(recipe, run, "--trainer.max_steps", "1")) == 0
    return run / "checkpoints" / "last.ckpt"


# It may be killed between the last step of an epoch and the validation, which then has not taken place when this ends.
@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_a_second_fit_is_refused_and_after_a_kill_the_next_one_goes_on(recipe, tmp_path, capfd):
    run = tmp_path / "run"
    last = run / "checkpoints" / "last.ckpt"
    # A process of its own: in a fork PyTorch refuses a backward pass once this process has used its autograd threads.
    process = subprocess.Popen([sys.executable, "-m", "resfu", *fit(recipe, run)])
    try:
        while not last.exists():
            assert process.poll() is None
            time.sleep(0.01)
        capfd.readouterr()
        assert main(fit(recipe, run, "--ckpt_path", "last")) == 2
        error = one_line(capfd)
        assert f"{run} is in use by `a training` (process {process.pid} on " in error
        assert error.endswith("or choose another folder by --run or --output.\n")
        # Most of a step as small as these is the writing of its checkpoint.
        while not list(last.parent.glob(".resfu-*")):
            time.sleep(0.0005)
    finally:
        process.kill()
        process.wait()
    assert (run / LOCK).exists()
    done, _ = read_progress(last)
    assert done > 0
    assert main(fit(recipe, run, "--ckpt_path", "last", "--trainer.max_steps", str(done + 1))) == 0
    assert read_progress(last)[0] == done + 1
    assert {path.name for path in last.parent.iterdir()} <= {"last.ckpt", "best.ckpt"}
    assert not (run / LOCK).exists()


def test_a_fit_that_diverges_keeps_its_checkpoint(recipe, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--model.optimisation.learning_rate", "1e20", "--model.schedule.warmup_steps", "0"]
    assert main(fit(recipe, run, *words)) == 2
    error = one_line(capsys)
    assert re.search(
        r"the training diverged: its loss is \S+ at step \d, and not finite: host\.\S+ and \d+ more", error
    )
    left = re.search(r"The last good checkpoint stays: (\S+)\.$", error)
    assert left is not None
    assert not_finite(read_checkpoint(Path(left[1]))["state_dict"]) == []
    # Its curves stay, to see what happened.
    assert (run / "logs" / "version_0" / "metrics.csv").is_file()


@pytest.mark.parametrize(("size", "words"), [(0, "is empty"), (100_000, "is cut off or damaged")])
def test_a_damaged_checkpoint_is_one_line(checkpoint, recipe, tmp_path, capsys, size, words):
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(checkpoint.read_bytes()[:size])
    (folder / "best.ckpt").write_bytes(checkpoint.read_bytes())
    for command in (fit(recipe, tmp_path / "run"), ["test", "--run", str(tmp_path / "run")]):
        assert main([*command, "--ckpt_path", "last"]) == 2
        error = one_line(capsys)
        assert f"the checkpoint {folder / 'last.ckpt'} {words}" in error
        assert f"Take {folder / 'best.ckpt'} instead." in error


def test_a_fit_that_fails_before_its_first_step_leaves_nothing(recipe, tmp_path, capsys, monkeypatch):
    run = tmp_path / "runs" / "x"
    camvid = ["--data.dataset", "camvid", "--data.root", str(tmp_path / "camvid")]
    assert main(fit(recipe, run, *camvid)) == 2
    assert list(tmp_path.iterdir()) == []

    def failing(*arguments):
        raise ValueError("no such batch")

    monkeypatch.setattr("resfu.training.module.TrainingModule.training_step", failing)
    assert main(fit(recipe, run)) == 2
    assert "no such batch" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    # And what was there before stays.
    (run / "logs" / "version_0").mkdir(parents=True)
    (run / "notes.txt").touch()
    assert main(fit(recipe, run)) == 2
    assert sorted(path.relative_to(run).as_posix() for path in run.rglob("*")) == [
        "logs",
        "logs/version_0",
        "notes.txt",
    ]


def test_a_shortened_recipe_warms_up_for_a_tenth_and_says_so(recipe, tmp_path, capsys):
    words = fit(recipe, tmp_path / "run", "--trainer.max_steps", "12")
    assert main(words) == 0
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]["schedule"]["warmup_steps"] == 1
    assert (
        "a warm-up of 20 steps is too long for 12 steps: 1 instead (--model.schedule.warmup_steps"
        in capsys.readouterr().err
    )
    assert main(fit(recipe, tmp_path / "trial", "--trainer.fast_dev_run", "true")) == 0
    assert "is too long for 1 steps: 0 instead" in capsys.readouterr().err
    assert not (tmp_path / "trial").exists()  # a trial run leaves nothing
    # One that was asked for is refused, with what to set.
    words = fit(recipe, tmp_path / "again", "--trainer.max_steps", "10", "--model.schedule.warmup_steps", "15")
    assert main(words) == 2
    assert "set --model.schedule.warmup_steps to less, such as 1, or train longer" in one_line(capsys)


def test_compare_and_reproduce_are_refused_in_a_folder_in_use(tmp_path, capsys):
    for words in (["compare"], ["reproduce", "table1", "--rows", "resfu"]):
        with locked(tmp_path, "resfu compare"):
            assert main([*words, "--output", str(tmp_path)]) == 2
        assert f"{tmp_path} is in use by `resfu compare` (process {os.getpid()} on" in one_line(capsys)
