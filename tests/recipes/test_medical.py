"""The published rows on Synapse and ACDC: each as published, and their recipes train, resume and measure."""

import json

import pytest
import torch

import resfu.hosts
from resfu.cli import main
from resfu.compare.reproduce.rows import VOLUME_TABLES, recipe_name
from resfu.hosts.transunet import TransUNet
from resfu.training.parameter_groups import parameter_groups
from tests.support.medical_fixtures import write_medical_fixture
from tests.support.published import ROWS as ALL
from tests.support.published import experiment_of, losses, module_of, named

HOST = "transunet-r50-vit-b16"
ROWS = named(*VOLUME_TABLES)
STEPS = {"synapse": 150 * 93, "acdc": 20_000}


def test_every_published_row_has_a_recipe():
    rows = [row for row in ALL if row.table in VOLUME_TABLES]
    assert {recipe_name(row) for row in rows} == {f"{HOST}_{dataset}" for dataset in STEPS}
    assert len(rows) == len(ROWS) == 2 * 7


@pytest.mark.parametrize("name", ROWS)
def test_it_builds_and_says_what_the_publication_says(name):
    row, settings = ROWS[name], experiment_of(name).settings
    model, data, trainer = (settings[part] for part in ("model", "data", "trainer"))
    assert (model["host"], model["upsampler"], data["dataset"]) == (row.host, row.upsampler, row.dataset)
    assert (model["upsampler_options"] or {}) == row.upsampler_options
    assert model["host_options"] == {"encoder_form": "transunet"}
    assert (model["pretrained"], settings["seed_everything"]) == (True, 1234)
    assert experiment_of(name).task.name == "volumes"
    assert (data["crop_size"], data["batch_size"]) == ((224, 224), 24)
    assert trainer["max_steps"] == STEPS[row.dataset]
    assert trainer["max_steps"] % trainer["val_check_interval"] == 0
    parameters = list(module_of(experiment_of(name)).host.parameters())
    assert all(parameter.is_meta for parameter in parameters)
    if row.upsampler == "bilinear":
        # 9 classes; 4 of ACDC: 5 kernels of 16 x 3 x 3 and their biases fewer
        wanted = 105_277_081 - (5 * 145 if row.dataset == "acdc" else 0)
        assert sum(parameter.numel() for parameter in parameters) == wanted


def test_the_optimisation():
    task = module_of(experiment_of(f"{HOST}_resfu_synapse"))
    groups = {group["name"]: group for group in parameter_groups(task.host, task.optimisation)}
    assert {name: group["lr"] for name, group in groups.items()} == pytest.approx(
        {"encoder": 0.01, "head": 0.01, "head/similarity": 0.5}
    )
    assert all(group["weight_decay"] * group["gradient_multiplier"] == pytest.approx(1e-4) for group in groups.values())
    assert (task.optimisation.method, task.optimisation.momentum) == ("sgd", 0.9)
    # 0.01 (1 - t / T)^0.9, half way
    assert task.schedule.learning_rate(6975, 0.01, 13950) == pytest.approx(0.01 * 0.5**0.9)


@pytest.fixture
def tiny_transunet(monkeypatch):
    def build(**options):
        return TransUNet(layers=(1, 1, 1), width=64, depth=1, image_size=32, channels=(32, 16, 16, 16), **options)

    monkeypatch.setitem(resfu.hosts.HOSTS, "transunet-tiny", build)


@pytest.mark.parametrize("dataset", STEPS)
def test_a_training_by_it_resumes_and_measures(dataset, tmp_path, tiny_transunet, capsys):
    root = write_medical_fixture(dataset, tmp_path / "root", count=1, size=(4, 48, 40))
    small = ["--model.host", "transunet-tiny", "--model.pretrained", "false", "--model.schedule.total_steps", "9"]
    small += ["--data.root", str(root), "--data.crop_size", "[32, 32]", "--data.batch_size", "2"]
    small += ["--data.num_workers", "0", "--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1"]
    trainer = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    fit = ["fit", "--recipe", f"{HOST}_{dataset}", "--upsampler", "resfu", *small, *trainer, "--save_every", "1"]

    whole, cut = ["--run", str(tmp_path / "whole")], ["--run", str(tmp_path / "cut")]
    assert main([*fit, *whole, "--trainer.max_steps", "2"]) == 0
    assert main([*fit, *cut, "--trainer.max_steps", "1"]) == 0
    assert main([*fit, *cut, "--trainer.max_steps", "2", "--checkpoint", "last"]) == 0
    seen = losses(tmp_path / "cut", 0) + losses(tmp_path / "cut", 1)
    assert seen == losses(tmp_path / "whole")  # exact equality is meant
    assert [step for step, _ in seen] == [0, 1]
    best = torch.load(tmp_path / "whole" / "checkpoints" / "best.ckpt", weights_only=True)
    chosen_by = [state["monitor"] for state in best["callbacks"].values() if "monitor" in state]
    assert chosen_by == ["val/dice"]

    metrics = tmp_path / "metrics.json"
    capsys.readouterr()
    assert main(["test", *cut, "--checkpoint", "last", "--metrics", str(metrics), *trainer]) == 0
    out = capsys.readouterr().out
    assert ("gallbladder" if dataset == "synapse" else "myocardium") in out
    assert "test/hd95" in out
    found = json.loads(metrics.read_text())
    assert len(found["dice_by_class"]) == (8 if dataset == "synapse" else 3)
    assert 0 <= found["dice"] <= 100
    assert list(found["cases"]) == (
        ["case0002"] if dataset == "synapse" else [f"case_003_volume_{p}" for p in ("ED", "ES")]
    )
