"""`resfu reproduce`: the rows of the published tables, trained at a tiny scale."""

import json
import re
from pathlib import Path

import pytest
import torch

import resfu.hosts
from resfu.cli import main
from resfu.compare.reproduce.trainings import Training
from resfu.tasks.label_maps import LabelMapModule
from resfu.training.last_checkpoint import LastCheckpoint
from resfu.training.record import Record
from tests.support.label_fixtures import write_fixture

B1 = ["--rows", "segformer-mit-b1_bilinear*,segformer-mit-b1_resfu*"]
TINY = "--data.base_size null --data.eval_size null --data.num_workers 0 --crop 32 --batch-size 2 --steps 2"
TINY += " --model.pretrained false --model.schedule.warmup_steps 0 --model.schedule.total_steps 10"
TINY += " --trainer.accelerator cpu --trainer.val_check_interval 99 --trainer.log_every_n_steps 1"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The data."""
    return write_fixture("ade20k", tmp_path_factory.mktemp("reproduce") / "ade", count=3, size=(32, 32))


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """The row's network at the size of SegFormer-B0."""
    b0 = resfu.hosts.HOSTS["segformer-mit-b0"]
    monkeypatch.setitem(resfu.hosts.HOSTS, "segformer-mit-b1", b0)


def words(place, output, *more):
    return ["reproduce", "table3", *B1, "--root", str(place), "--output", str(output), *TINY.split(), *more]


def test_interrupted_and_called_again_it_ends_as_if_it_had_not_been(place, tmp_path, monkeypatch, capsys):
    whole_step = LastCheckpoint.on_train_batch_end

    def cut_after_a_step(self, trainer, module, *others):
        whole_step(self, trainer, module, *others)
        if module.hparams["upsampler"] == "resfu" and trainer.global_step == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LastCheckpoint, "on_train_batch_end", cut_after_a_step)
        assert main(words(place, tmp_path / "cut", "--save_every", "1")) == 130
    captured = capsys.readouterr()
    assert "the same command goes on" in captured.err
    begun = json.loads((tmp_path / "cut" / "table3.json").read_text())["rows"]
    assert [row["measured"] is None for row in begun] == [False, True]

    def cut_before_the_test(self, batch, batch_idx):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LabelMapModule, "test_step", cut_before_the_test)
        assert main(words(place, tmp_path / "cut", "--save_every", "1")) == 130
    capsys.readouterr()
    assert main(words(place, tmp_path / "cut", "--save_every", "1")) == 0
    said = capsys.readouterr().out
    assert "segformer-mit-b1_bilinear_ade20k, seed 0: finished before" in said
    assert "segformer-mit-b1_resfu_ade20k, seed 0: goes on from its checkpoint" in said
    assert "40.97" in said
    assert "(+2.87)" in said  # 43.84 - 40.97, as printed in the paper

    assert main(words(place, tmp_path / "whole", "--save_every", "1")) == 0
    cut, whole = (json.loads((tmp_path / name / "table3.json").read_text())["rows"] for name in ("cut", "whole"))
    assert cut == whole
    bilinear, resfu = whole
    assert (resfu["label"], resfu["host"], resfu["recipe"]) == ("resfu", "segformer-mit-b1", "segformer-mit-b1_ade20k")
    assert resfu["published"] == {"miou": 43.84, "macc": 54.75, "biou": 28.06, "params_m": 13.86}
    assert resfu["measured"]["parameters"] - bilinear["measured"]["parameters"] == 3 * 47_570
    gain = resfu["measured"]["miou"]["mean"] - bilinear["measured"]["miou"]["mean"]
    assert resfu["gain"]["measured"]["miou"]["mean"] == pytest.approx(gain)
    assert resfu["measured"]["miou"]["std"] is None
    steps = torch.load(tmp_path / "cut/runs/segformer-mit-b1_resfu_ade20k-seed0/checkpoints/last.ckpt")["global_step"]
    assert steps == 2
    assert Path(tmp_path / "cut" / "sheets" / "segformer-mit-b1.png").is_file()
    assert main(words(place, tmp_path / "cut", "--save_every", "1", "--model.loss_average", "valid")) == 2
    assert "holds trainings with other settings (" in capsys.readouterr().err


def test_a_dry_run_names_the_trainings_and_leaves_nothing(place, tmp_path, capsys):
    assert main(words(place, tmp_path / "out", "--dry-run", "--seeds", "2", "--trainer.devices", "4")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("  ") for line in lines] == [False, True] * 4
    assert lines[2:4] == [
        "segformer-mit-b1_bilinear_ade20k, seed 1: begins",
        "  recipe segformer-mit-b1_ade20k, upsampler bilinear, in "
        f"{tmp_path}/out/runs/segformer-mit-b1_bilinear_ade20k-seed1",
    ]
    assert not (tmp_path / "out").exists()


def test_a_row_is_named_by_its_label(tmp_path, capsys):
    assert main(["reproduce", "table3", "--row", "sapa", "--dry-run", "--output", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "segformer-mit-b1_sapa_ade20k, seed 0: begins",
        "segformer-mit-b5_sapa_ade20k, seed 0: begins",
    ]
    assert lines[1].startswith("  recipe segformer-mit-b1_ade20k, upsampler sapa, in ")
    words = ["reproduce", "table5", "--row", "segmenter-vit-s_resfu+alignment=semantic+*", "--dry-run", "--output", "x"]
    assert main(words) == 0
    assert "upsampler resfu+alignment=semantic+guided_query=false, in x/runs/" in capsys.readouterr().out


def test_a_training_that_stopped_early_is_not_measured(place, tmp_path, capsys, monkeypatch):
    def stop(self, *others):
        self.trainer.should_stop = True  # as Lightning does when the time is over

    with monkeypatch.context() as patch:
        patch.setattr(LabelMapModule, "on_train_batch_end", stop)
        assert main(words(place, tmp_path, "--save_every=1")) == 2
    message = r"last\.ckpt is not measured: it has had 1 of 2 steps\. Repeat the command"
    assert re.search(message, capsys.readouterr().err)
    run = tmp_path / "runs" / "segformer-mit-b1_bilinear_ade20k-seed0"
    assert not (run / "metrics.json").exists()
    assert main(words(place, tmp_path, "--save_every=1")) == 0
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    monkeypatch.setattr(LastCheckpoint, "on_train_batch_end", lambda *others: None)
    assert main(words(place, tmp_path / "other")) == 2
    assert "ade20k left no " in capsys.readouterr().err


def test_settings_bind_from_the_first_checkpoint_on(place, tmp_path, capsys, monkeypatch):
    assert main(words(place, tmp_path / "x", "--model.hots", "x")) == 2
    assert "unknown key model.hots" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()

    def interrupt(self, *others):
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "carry_out", interrupt)
    assert main(words(place, tmp_path)) == 130
    assert json.loads((tmp_path / "settings.json").read_text())["data"]["root"] == str(place)
    assert main(words(place, tmp_path, "--model.loss_average", "valid")) == 130  # nothing had begun


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["table9"], "choose from table1, .*table8, table10, table11, table12, got 'table9'"),
        (["table3", "--rows", "cubist"], "no row matches 'cubist'; the labels are bilinear, deconv"),
        (
            ["table3", "--scale", "small", "--recipe", "ct"],
            "these tables are of label maps, and the recipe ct of volumes",
        ),
        (
            ["table3", "--scale", "small", "--recipe", "scenes-instances"],
            "of label maps, and the recipe scenes-instances of instances: give another --recipe",
        ),
        (["table3", "--scale", "small", "--steps", "0"], "--steps: expected a whole number of at least 1"),
        (["table3", "table10", "--scale", "small", "--recipe", "ct"], "need a recipe each: call them one by one"),
        (["table10", "--scale", "small", "--recipe", "scenes"], "of volumes, and the recipe scenes of label maps"),
        (["table12", "--scale", "small", "--crop", "64"], r"unknown key data\.crop_size"),
    ],
)
def test_bad_words_end_with_a_line_that_says_so(tmp_path, capsys, given, message):
    output = tmp_path / "out"
    assert main(["reproduce", *given, "--output", str(output)]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not output.exists()


def test_at_small_scale_it_is_a_comparison_that_can_be_interrupted(tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    small = "--crop 64 --steps 3 --batch-size 2 --threads 1 --save_every 1 --trainer.val_check_interval 3"
    small += " --trainer.check_val_every_n_epoch null --model.pretrained false --model.schedule.warmup_steps 1"
    given = ["reproduce", "table6", "table7", "--scale", "small", "--output", str(output)]
    given += ["--root", str(tmp_path / "cache"), *small.split(), "--data.options", "{size: [64, 64]}"]
    given += ["--data.train_options", "{count: 4}", "--data.eval_options", "{count: 2}"]
    saved = Record.on_train_batch_end

    def interrupt(self, trainer, module, *others):
        saved(self, trainer, module, *others)
        if "concat" in str(module.hparams["upsampler_options"]) and trainer.global_step == 2:
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
