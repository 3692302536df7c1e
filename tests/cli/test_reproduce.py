"""`resfu reproduce`: the rows of the published tables, trained at a tiny scale."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml

import resfu.cli.reproduce as module
import resfu.compare.run
from resfu.cli import main
from resfu.compare.run import Record
from resfu.tasks.label_maps import LabelMapModule
from tests.support.label_fixtures import write_fixture

TINY = {
    "base": ["base.yaml"],
    "model": {"host": "segformer-mit-b0", "upsampler": "bilinear", "schedule": {"total_steps": 10}},
}
BASE = {
    "data": {"dataset": "ade20k", "crop_size": [32, 32], "test_split": "val", "batch_size": 2},
    "trainer": {
        "accelerator": "cpu",
        "max_steps": 2,
        "val_check_interval": 99,
        "check_val_every_n_epoch": None,
        "log_every_n_steps": 1,
    },
}


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch):
    """Lightning's seeding writes into the environment and moves the generators."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Recipes of three rows of Table 3 that stand for a tiny training, and its data."""
    folder = tmp_path_factory.mktemp("reproduce")
    write_fixture("ade20k", folder / "ade", count=3, size=(32, 32))
    recipes = folder / "recipes"
    recipes.mkdir()
    (recipes / "base.yaml").write_text(yaml.safe_dump(BASE))
    for host, upsampler in (("b1", "bilinear"), ("b1", "resfu"), ("b5", "bilinear")):
        TINY["model"]["upsampler"] = upsampler
        (recipes / f"segformer-mit-{host}_{upsampler}_ade20k.yaml").write_text(yaml.safe_dump(TINY))
    return folder


def words(place, output, *more):
    common = ["--data.root", str(place / "ade"), "--recipes", str(place / "recipes"), "--output", str(output)]
    return ["reproduce", "table3", "--rows", "segformer-mit-b1_bilinear*,segformer-mit-b1_resfu*", *common, *more]


def test_interrupted_and_called_again_it_ends_as_if_it_had_not_been(place, tmp_path, monkeypatch, capsys):
    commands = []

    def in_this_process(words):
        commands.append(words[0])
        return main(words)

    def cut_before_the_test(words):
        return 130 if words[0] == "test" else main(words)

    def cut_after_a_step(words):
        if words[0] == "fit" and "_resfu_" in words[2]:
            assert main([*words, "--trainer.max_steps", "1"]) == 0
            return 130
        return main(words)

    monkeypatch.setattr(module, "command", cut_after_a_step)
    assert main(words(place, tmp_path / "cut")) == 130
    captured = capsys.readouterr()
    assert "the same command goes on" in captured.err
    begun = json.loads((tmp_path / "cut" / "table3.json").read_text())["rows"]
    assert [row["measured"] is None for row in begun] == [False, True]

    monkeypatch.setattr(module, "command", cut_before_the_test)
    assert main(words(place, tmp_path / "cut")) == 130
    capsys.readouterr()
    monkeypatch.setattr(module, "command", in_this_process)
    assert main(words(place, tmp_path / "cut")) == 0
    assert commands == ["fit", "test"]  # the finished row is not repeated
    said = capsys.readouterr().out
    assert "segformer-mit-b1_bilinear_ade20k, seed 0: finished before" in said
    assert "segformer-mit-b1_resfu_ade20k, seed 0: goes on from its checkpoint" in said
    assert "40.97" in said
    assert "(+2.87)" in said  # 43.84 - 40.97, as printed in the paper

    assert main(words(place, tmp_path / "whole")) == 0
    cut, whole = (json.loads((tmp_path / name / "table3.json").read_text())["rows"] for name in ("cut", "whole"))
    assert cut == whole
    bilinear, resfu = whole
    assert (resfu["label"], resfu["host"], resfu["recipe"]) == (
        "resfu",
        "segformer-mit-b1",
        "segformer-mit-b1_resfu_ade20k",
    )
    assert resfu["published"] == {"miou": 43.84, "macc": 54.75, "biou": 28.06, "params_m": 13.86}
    assert resfu["measured"]["parameters"] - bilinear["measured"]["parameters"] == 3 * 47_570
    gain = resfu["measured"]["miou"]["mean"] - bilinear["measured"]["miou"]["mean"]
    assert resfu["gain"]["measured"]["miou"]["mean"] == pytest.approx(gain)
    assert resfu["measured"]["miou"]["std"] is None
    steps = torch.load(tmp_path / "cut/runs/segformer-mit-b1_resfu_ade20k-seed0/checkpoints/last.ckpt")["global_step"]
    assert steps == 2
    assert main(words(place, tmp_path / "cut", "--model.loss_average", "valid")) == 2
    assert "other options (none)" in capsys.readouterr().err


def test_a_dry_run_prints_commands_and_leaves_nothing(place, tmp_path, capsys):
    given = words(place, tmp_path / "out", "--dry-run", "--seeds", "2", "--trainer.devices", "4", "--save_every=9")
    assert main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("#") for line in lines] == [True, False, False] * 4
    fit, test = (shlex.split(line) for line in lines[4:6])
    assert fit[:2] == ["resfu", "fit"]
    assert fit[fit.index("--seed_everything") + 1] == "1"
    assert fit[-3:] == ["--trainer.devices", "4", "--save_every=9"]
    assert test[:2] == ["resfu", "test"]
    assert test[-2:] == ["--trainer.devices", "4"]
    assert not (tmp_path / "out").exists()


def test_a_failing_row_is_named(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "command", lambda words: 2)
    assert main(words(place, tmp_path)) == 2
    assert "`resfu fit` of segformer-mit-b1_bilinear_ade20k ended with the exit code 2" in capsys.readouterr().err


def test_a_training_that_stopped_early_is_not_measured(place, tmp_path, capsys, monkeypatch):
    commands = []

    def noted(words):
        commands.append(words[0])
        return main(words)

    def stop(self, *others):
        self.trainer.should_stop = True  # as Lightning does when the time is over

    monkeypatch.setattr(module, "command", noted)
    with monkeypatch.context() as patch:
        patch.setattr(LabelMapModule, "on_train_batch_end", stop)
        assert main(words(place, tmp_path, "--save_every=1")) == 2
    assert re.search(r"last\.ckpt is not measured: it has had 1 of 2 steps\. The same command", capsys.readouterr().err)
    assert commands == ["fit"]
    assert main(words(place, tmp_path, "--save_every=1")) == 0
    assert commands == ["fit", "fit", "test", "fit", "test"]
    monkeypatch.setattr(module, "command", lambda words: 0 if words[0] == "fit" else main(words))
    assert main(words(place, tmp_path / "other")) == 2
    assert "ade20k left no " in capsys.readouterr().err


def test_options_bind_from_the_first_checkpoint_on(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "command", main)
    assert main(words(place, tmp_path, "--model.hots", "x")) == 2
    assert "unknown option: --model.hots x" in capsys.readouterr().err
    monkeypatch.setattr(module, "command", lambda words: 130)
    assert main(words(place, tmp_path, "--model.host", "segformer-mit-b0")) == 130
    assert json.loads((tmp_path / "options.json").read_text()) == ["--model.host", "segformer-mit-b0"]


def test_a_command_is_a_process(capfd):
    assert module.command(["nonsense"]) == 2
    assert capfd.readouterr().err.startswith("resfu: unknown command 'nonsense'")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["table9"], "choose from table1, .*table8, table10, table11, table12, got 'table9'"),
        (["table3", "--rows", "cubist"], "no row fits 'cubist'; their labels are bilinear, deconv"),
        (["table1"], r"there is no recipe .*pspnet-resnet50_bilinear_ade20k\.yaml"),
        (
            ["table3", "--scale", "small", "--data", "ct", "--root", "x"],
            "in mIoU, which transunet-small on ct is not measured in",
        ),
        (
            ["table3", "--scale", "small", "--host", "mask-rcnn-resnet50"],
            r"in mIoU, which mask-rcnn-resnet50 on scenes is not measured in \(mask AP\): give another --host",
        ),
        (["table3", "--scale", "small", "--steps", "0"], "--steps: expected a whole number of at least 1"),
    ],
)
def test_bad_words_end_with_a_line_that_says_so(place, tmp_path, capsys, given, message):
    output = tmp_path / "out"
    assert main(["reproduce", *given, "--output", str(output), "--recipes", str(place / "recipes")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not output.exists()


def test_at_small_scale_it_is_a_comparison_that_can_be_interrupted(tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    small = (
        "--size 64 --train-images 4 --val-images 2 --steps 3 --batch-size 2 --pictures 1 --threads 1 --validations 1"
    )
    given = ["reproduce", "table6", "table7", "--scale", "small", "--output", str(output), "--no-pretrained"]
    given += ["--root", str(tmp_path / "cache"), *small.split()]
    monkeypatch.setattr(resfu.compare.run, "CHECKPOINT_EVERY", 1)
    saved = Record.on_train_batch_end

    def interrupt(self, trainer, *others):
        saved(self, trainer, *others)
        if "concat" in str(self.folder.path) and trainer.global_step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Record, "on_train_batch_end", interrupt)
        assert main(given) == 130
    assert not (output / "table6.json").exists()
    capsys.readouterr()
    assert main(given) == 0
    said = capsys.readouterr().out
    assert "resfu+similarity=inner_product, seed 0: finished before" in said
    assert "resfu+similarity=concat, seed 0: goes on" in said

    runs = {path.name for path in (output / "runs").iterdir()}
    assert runs == {
        "resfu+similarity=inner_product-seed0",
        "resfu+similarity=concat-seed0",
        "resfu+neighbours=coarse-seed0",
        "resfu-seed0",
    }
    curves = json.loads((output / "runs/resfu+neighbours=coarse-seed0/metrics.json").read_text())["curves"]
    assert len(curves["miou"]) == 1
    tables = [json.loads((output / f"table{number}.json").read_text()) for number in (6, 7)]
    assert [[(row["label"], row["host"]) for row in table["rows"]] for table in tables] == [
        [(label, host) for host in ("segmenter-vit-s", "segformer-mit-b1") for label in labels]
        for labels in (["a", "b", "c"], ["coarse", "fine"])
    ]
    inner, concat, whole = (row["measured"] for row in tables[0]["rows"][:3])
    assert tables[1]["rows"][1]["measured"] == whole  # the fine neighbours are the whole method
    # The published differences of one module: 49,152 for the concatenation less 30,720, and two blocks without any.
    assert concat["parameters"] - whole["parameters"] == 18_432
    assert whole["parameters"] - inner["parameters"] == 2 * 15_049
    checkpoint = torch.load(output / "runs/resfu+neighbours=coarse-seed0/weights.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["upsampler_options"] == {"neighbours": "coarse"}
    assert Path(output / "report.html").is_file()
