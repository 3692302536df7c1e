"""The recipes of the published rows on Synapse and ACDC: all there, as published, and one trains, resumes, measures."""

import csv
import inspect
import json
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

import resfu.hosts
from resfu.cli import main
from resfu.cli.recipe import with_bases
from resfu.data.medical.fixtures import write_medical_fixture
from resfu.evaluation.published import published_rows
from resfu.hosts.transunet import TransUNet
from resfu.tasks.label_maps import LabelMapData
from resfu.training.parameter_groups import parameter_groups
from resfu.tasks.label_maps import LabelMapModule

RECIPES = Path(__file__).parents[2] / "recipes"
HOST = "transunet-r50-vit-b16"
ROWS = {f"{HOST}_{row.upsampler}_{row.dataset}": row for row in published_rows([10, 11])}
STEPS = {"synapse": 150 * 93, "acdc": 20_000}


def merged(name):
    """The content of a recipe on top of its bases: two levels are all that recipes have."""
    content = {}
    for file in with_bases(["--config", str(RECIPES / f"{name}.yaml")])[1::2]:
        for key, value in yaml.safe_load(Path(file).read_text()).items():
            content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
    return content


def task_of(name):
    with torch.device("meta"):
        return LabelMapModule(**{**merged(name)["model"], "pretrained": False, "num_classes": 9})


def test_every_published_row_has_a_recipe_and_nothing_else_does():
    files = [file for dataset in STEPS for file in RECIPES.glob(f"*_{dataset}.yaml")]
    assert {file.stem for file in files} == set(ROWS)
    assert len(ROWS) == 2 * 7


@pytest.mark.parametrize("name", ROWS)
def test_it_builds_and_says_what_the_publication_says(name):
    row, content = ROWS[name], merged(name)
    model, data, trainer = (content[part] for part in ("model", "data", "trainer"))
    assert (model["host"], model["upsampler"], data["dataset"]) == (row.host, row.upsampler, row.dataset)
    assert model.get("upsampler_options", {}) == row.upsampler_options
    assert model["host_options"] == {"encoder_form": "transunet"}
    assert (model["pretrained"], content["seed_everything"]) == (True, 1234)
    assert (data["augmentation"], data["crop_size"], data["batch_size"]) == ("slice", [224, 224], 24)
    assert trainer["max_steps"] == STEPS[row.dataset]
    assert trainer["max_steps"] % trainer["val_check_interval"] == 0
    for part, kind in ((data, LabelMapData), (trainer, Trainer)):
        assert part.keys() <= inspect.signature(kind).parameters.keys()
    parameters = list(task_of(name).host.parameters())
    assert all(parameter.is_meta for parameter in parameters)
    if row.upsampler == "bilinear":
        assert sum(parameter.numel() for parameter in parameters) == 105_277_081


def test_the_optimisation():
    task = task_of(f"{HOST}_resfu_synapse")
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
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # Lightning's seeding writes there


@pytest.mark.parametrize("dataset", STEPS)
def test_a_training_by_it_resumes_and_measures(dataset, tmp_path, tiny_transunet, capsys):
    root = write_medical_fixture(dataset, tmp_path / "root", count=1, size=(4, 48, 40))
    small = ["--model.host", "transunet-tiny", "--model.pretrained", "false", "--model.schedule.total_steps", "9"]
    small += ["--data.root", str(root), "--data.crop_size", "[32, 32]", "--data.batch_size", "2"]
    small += ["--data.num_workers", "0", "--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1"]
    trainer = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    fit = ["fit", "--config", str(RECIPES / f"{HOST}_resfu_{dataset}.yaml"), *small, *trainer, "--save_every", "1"]

    whole, cut = ["--run", str(tmp_path / "whole")], ["--run", str(tmp_path / "cut")]
    assert main([*fit, *whole, "--trainer.max_steps", "2"]) == 0
    assert main([*fit, *cut, "--trainer.max_steps", "1"]) == 0
    assert main([*fit, *cut, "--trainer.max_steps", "2", "--ckpt_path", "last"]) == 0
    losses = _losses(tmp_path / "cut", 0) + _losses(tmp_path / "cut", 1)
    assert losses == _losses(tmp_path / "whole", 0)  # exact equality is meant
    assert [step for step, _ in losses] == [0, 1]
    best = torch.load(tmp_path / "whole" / "checkpoints" / "best.ckpt", weights_only=True)
    chosen_by = [state["monitor"] for state in best["callbacks"].values() if "monitor" in state]
    assert chosen_by == ["val/dice"]

    metrics = tmp_path / "metrics.json"
    capsys.readouterr()
    assert main(["test", *cut, "--ckpt_path", "last", "--metrics", str(metrics), *trainer]) == 0
    out = capsys.readouterr().out
    assert ("gallbladder" if dataset == "synapse" else "myocardium") in out
    assert "test/hd95" in out
    found = json.loads(metrics.read_text())
    assert len(found["dice"]) == (8 if dataset == "synapse" else 3)
    assert 0 <= found["mdice"] <= 100
    assert list(found["cases"]) == (
        ["case0002"] if dataset == "synapse" else [f"case_003_volume_{p}" for p in ("ED", "ES")]
    )


def _losses(run, version):
    with (run / "logs" / f"version_{version}" / "metrics.csv").open() as file:
        return [(int(row["step"]), float(row["train/loss"])) for row in csv.DictReader(file) if row["train/loss"]]
