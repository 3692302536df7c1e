"""Every task keeps one contract: train, resume exactly, measure, predict, compare and report.

And a fifth one, which is one file (tests/support/depth.py): nothing else of the package knows of it.
"""

import html
import json

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image

from resfu.cli import main
from resfu.compare.comparison import Comparison
from resfu.compare.run import compare
from resfu.recipes import merge, read_recipe
from resfu.tasks import TASKS
from resfu.tasks.experiment import Experiment
from resfu.tasks.loading import load_module
from resfu.tasks.run import RunFolder, train
from tests.support.depth import Depth

# What makes the small recipe of each task smaller still.
SCENES = {
    "data": {
        "options": {"size": [64, 64]},
        "train_options": {"count": 6},
        "eval_options": {"count": 2},
        "batch_size": 2,
        "eval_batch_size": 1,
    },
    "model": {"pretrained": False},
}
OBJECTS = merge(SCENES, {"model": {"host_options": {"min_size": 64, "max_size": 64}}})
VOLUMES = {
    "data": {
        "options": {"size": [4, 32, 32]},
        "train_options": {"count": 2},
        "eval_options": {"count": 1},
        "crop_size": [32, 32],
        "batch_size": 2,
    }
}
SMALL = {
    "label maps": merge(SCENES, {"data": {"crop_size": [64, 64]}}),
    "volumes": VOLUMES,
    "instances": OBJECTS,
    "panoptic": OBJECTS,
    "depth": {},
}
STEPS = {"trainer": {"max_steps": 4, "val_check_interval": 2}, "model": {"schedule": {"warmup_steps": 1}}}

each_task = pytest.mark.parametrize("task", SMALL)


@pytest.fixture(scope="module", autouse=True)
def a_fifth_task():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, Depth.name, Depth())
        yield


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.values.append(outputs["loss"].item())


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def small_experiment(task, cache, *settings):
    recipe, small = TASKS[task].small_recipe, SMALL[task]
    root = {"data": {"root": str(cache / recipe)}}
    return Experiment(read_recipe(recipe), small, STEPS, root, {"model": {"upsampler": "bilinear"}}, *settings)


def losses_of(experiment, folder, checkpoint=None):
    losses = Losses()
    trained = train(experiment, RunFolder(folder), checkpoint=checkpoint, callbacks=[losses], logs=False)
    return losses.values, trained


@pytest.fixture(scope="session")
def fitted(cache, tmp_path_factory):
    """Makes, once for every task, a training: its losses, what it leaves in memory, and its folder."""
    made = {}

    def fit(task):
        if task not in made:
            folder = RunFolder(tmp_path_factory.mktemp("run"))
            made[task] = (*losses_of(small_experiment(task, cache), folder.path), folder)
        return made[task]

    return fit


def test_every_task_has_a_small_experiment():
    assert SMALL.keys() == TASKS.keys()


@each_task
def test_scores_are_named_once(task):
    keys = [score.key for score in TASKS[task].module.scores if score.key]
    assert len(set(keys)) == len(keys)
    assert TASKS[task].monitor is TASKS[task].scores[0]
    for score in TASKS[task].scores:  # comparisons look these up among the compared ones
        assert {score.counted_first, score.requires} <= {"", *(other.key for other in TASKS[task].scores)}


@each_task
def test_it_trains_resumes_exactly_and_measures(task, cache, fitted, tmp_path):
    whole, trained, folder = fitted(task)
    assert len(whole) == 4
    module = trained.module
    assert module.headline().keys() <= {score.key for score in module.scores}
    assert TASKS[task].monitor.key in module.headline()
    by_class = [module.results[score.by_class] for score in module.scores if score.by_class in module.results]
    assert module.table().row_count == len(by_class[0] if by_class else module.headline())
    assert bool(by_class) == bool(module.class_names)

    two = small_experiment(task, cache, {"trainer": {"max_steps": 2}, "model": {"schedule": {"total_steps": 4}}})
    first, _ = losses_of(two, tmp_path / "parts")
    last = RunFolder(tmp_path / "parts").last
    rest, again = losses_of(small_experiment(task, cache), tmp_path / "parts", last)
    assert first + rest == whole
    for name, value in module.host.state_dict().items():
        torch.testing.assert_close(again.module.host.state_dict()[name], value, rtol=0, atol=0, msg=name)
    loaded = load_module(folder.last)
    assert loaded.class_names == module.class_names
    for name, value in module.host.state_dict().items():
        torch.testing.assert_close(loaded.host.state_dict()[name], value, rtol=0, atol=0, msg=name)


@each_task
def test_with_one_seed_networks_start_the_same_whatever_the_upsampler(task, cache):
    networks = [
        small_experiment(task, cache, {"model": {"upsampler": name}}).create_module() for name in ("bilinear", "resfu")
    ]
    bilinear, resfu = (network.host.state_dict() for network in networks)
    assert bilinear.keys() < resfu.keys()
    for name, value in bilinear.items():
        torch.testing.assert_close(resfu[name], value, rtol=0, atol=0, msg=name)


def photo_or_scan(task, folder):
    if TASKS[task].writer(str(folder), progress=False).kind == "scan":
        path = folder / "scan.npz"
        np.savez(path, image=np.random.default_rng(0).random((3, 32, 32), np.float32))
        return path
    path = folder / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)).save(path)
    return path


@each_task
def test_the_commands_take_it(task, cache, fitted, tmp_path, capsys):
    folder = fitted(task)[-1]
    place = ["--run", str(folder.path), "--checkpoint", "last"]
    metrics = tmp_path / "metrics.json"
    assert main(["validate", *place, "--metrics", str(metrics)]) == 0
    assert TASKS[task].monitor.key in json.loads(metrics.read_text())
    file = photo_or_scan(task, tmp_path)
    assert main(["predict", str(file), *place, "--output", str(tmp_path / "out")]) == 0
    assert any((tmp_path / "out").iterdir())
    assert TASKS[task].written in capsys.readouterr().out


@each_task
def test_it_compares_as_fit_trains_and_reports(task, cache, fitted, tmp_path, capsys):
    recipe, small = TASKS[task].small_recipe, SMALL[task]
    settings = merge(small, STEPS, {"data": {"root": str(cache / recipe)}})
    comparison = Comparison(recipe, ("bilinear", "resfu"), (0,), settings)
    results = compare(comparison, tmp_path, pictures=1)
    assert results["task"] == task
    assert [run["upsampler"] for run in results["runs"]] == ["bilinear", "resfu"]
    for run in results["runs"]:
        assert {score.key for score in TASKS[task].scores} <= run["metrics"].keys()
        assert len(run["curves"]["loss"]) == 4
    assert [loss for _, loss in results["runs"][0]["curves"]["loss"]] == fitted(task)[0]
    page = (tmp_path / "report.html").read_text("utf-8")
    for score in TASKS[task].scores:
        assert html.escape(score.title) in page
        mean = results["summary"]["resfu"][score.key]["mean"]
        assert f">{'-' if mean is None else f'{mean:.{score.decimals}f}'}" in page
    assert ('<h2 id="classes-heading">' in page) == bool(results["classes"])
    assert len(list((tmp_path / "sheets").glob("*.png"))) == 1
    printed = capsys.readouterr().out
    assert "finished before" not in printed
    assert compare(comparison, tmp_path, pictures=1) == json.loads((tmp_path / "results.json").read_text())
    assert capsys.readouterr().out.count("finished before") == 2
