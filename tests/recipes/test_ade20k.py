"""The published rows on ADE20K: each as published, and each kind of network trains by its recipe."""

import json
import re

import pytest
import torch

import resfu
import resfu.hosts
from resfu.cli import main
from resfu.compare.reproduce.rows import ADE20K_TABLES, recipe_name, row_name
from resfu.evaluation.cost.host import inference_parameters
from resfu.evaluation.published import published_rows
from resfu.recipes import read_recipe
from resfu.tasks.experiment import Experiment
from resfu.training.parameter_groups import parameter_groups
from tests.support.label_fixtures import write_fixture
from tests.support.published import experiment_of, losses, module_of, named

ROWS = named(*ADE20K_TABLES)
FAMILIES = {  # from the spec, by hand; images of a step, crop, bounds of the image at evaluation, windows
    "pspnet-resnet50": (80_000, 16, 512, (2048, 512), None),
    "pspnet-resnet101": (80_000, 16, 512, (2048, 512), None),
    "segmenter-vit-s": (160_000, 8, 512, (2048, 512), (512, 480)),
    "segmenter-vit-l": (160_000, 8, 640, (2560, 640), (640, 608)),
    "segformer-mit-b1": (160_000, 16, 512, (2048, 512), None),
    "segformer-mit-b5": (160_000, 16, 512, (2048, 512), None),
    "maskformer-swin-b": (160_000, 16, 640, (2560, 640), None),
    "maskformer-swin-l": (160_000, 16, 640, (2560, 640), None),
}
PUBLISHED_FORMS = {
    "segmenter": {"antialias_positions": False, "continuation": "zeros"},
    "maskformer": {"continuation": "zeros"},
}


def test_every_published_row_has_a_recipe():
    rows = published_rows(ADE20K_TABLES)
    assert {recipe_name(row) for row in rows} == {f"{host}_ade20k" for host in FAMILIES}
    assert len(rows) == 104
    main_tables = {row_name(row) for row in rows if row.table < 5}
    assert len(main_tables) == 72
    assert len(ROWS.keys() - main_tables) == 4 * 2 + 2 * 2 + 2 + 7
    assert row_name(published_rows([8])[0]) == "segmenter-vit-s_resfu_ade20k"  # K=3, the whole method


@pytest.mark.parametrize("host", FAMILIES)
def test_recipes_say_what_the_publication_says(host):
    steps, batch, crop, bounds, windows = FAMILIES[host]
    for name, row in ROWS.items():
        if row.host != host:
            continue
        settings = experiment_of(name).settings
        model, data, trainer = (settings[part] for part in ("model", "data", "trainer"))
        assert (model["host"], model["upsampler"]) == (row.host, row.upsampler), name
        assert (model["upsampler_options"] or {}) == row.upsampler_options, name
        assert (model["pretrained"], model["loss_average"]) == (True, "all")
        assert (model["host_options"] or {}) == PUBLISHED_FORMS.get(host.partition("-")[0], {}), name
        assert (data["dataset"], data["test_split"], 8 * data["batch_size"]) == ("ade20k", "val", batch)
        assert data["crop_size"] == (crop, crop)
        assert data["base_size"] == data["eval_size"] == bounds
        assert trainer["max_steps"] == steps
        assert trainer["check_val_every_n_epoch"] is None  # its steps reach over epochs
        inference = model["inference"]
        assert inference["mode"] == ("slide" if windows else "whole")
        if windows:
            assert (inference["crop_size"][0], inference["stride"][0]) == windows


@pytest.mark.parametrize("name", ROWS)
def test_it_builds(name):
    row = ROWS[name]
    task = module_of(experiment_of(name))
    printed = row.metrics.get("params_m")
    if printed is not None and "params_m" not in row.misprints:
        assert f"{inference_parameters(task.host) / 1e6:.2f}" == f"{printed:.2f}"
    assert all(parameter.is_meta for parameter in task.host.parameters())


@pytest.mark.parametrize(
    ("host", "method", "rates", "decay", "curve"),
    [
        # (encoder, head, similarity blocks), then (power, minimum, warm-up)
        ("pspnet-resnet50", torch.optim.SGD, (0.01, 0.01, 0.5), 5e-4, (0.9, 1e-4, 0)),
        ("segmenter-vit-s", torch.optim.SGD, (1e-3, 1e-3, 0.5), 0.0, (0.9, 1e-4, 0)),
        ("segformer-mit-b1", torch.optim.AdamW, (6e-5, 6e-4, 6e-4), 0.01, (1.0, 0.0, 1500)),
        ("maskformer-swin-b", torch.optim.AdamW, (6e-5, 6e-5, 6e-5), 0.01, (0.9, 0.0, 1500)),
    ],
)
def test_the_optimisation(host, method, rates, decay, curve):
    task = module_of(experiment_of(f"{host}_resfu_ade20k"))
    groups = {group["name"]: group for group in parameter_groups(task.host, task.optimisation)}
    found = [groups[name] for name in ("encoder", "head", "head/similarity")]
    assert [group["lr"] for group in found] == pytest.approx(rates)
    assert [group["weight_decay"] * group["gradient_multiplier"] for group in found] == pytest.approx([decay] * 3)
    assert task.optimisation.method == ("sgd" if method is torch.optim.SGD else "adamw")
    assert task.optimisation.momentum == 0.9
    assert task.optimisation.betas == (0.9, 0.999)
    assert (task.schedule.power, task.schedule.minimum, task.schedule.warmup_steps) == curve
    names = {id(parameter): name for name, parameter in task.host.named_parameters()}
    spared = {names[id(p)] for group in groups.values() if group["weight_decay"] == 0 for p in group["params"]}
    if host.startswith("maskformer"):
        for part in ("relative_position_bias_table", "queries_embedder.weight", "layernorm"):
            assert any(part in name for name in spared), part
        assert not any(name.endswith(("linear.weight", "conv.weight")) for name in spared)
    elif host.startswith("segformer"):
        assert spared == _spared_as_published(task.host)
        numbers = [p.numel() for group in groups.values() if group["weight_decay"] == 0 for p in group["params"]]
        assert sum(numbers) == 12_288
    elif decay:
        assert not spared


def _spared_as_published(host):
    """SegFormer's parameters under mmsegmentation's names, and on these its pattern: a name with "head" in it gets
    another rate, another one with "norm" in it no decay. A stage is [patch embedding, blocks, norm] there."""
    published = {}
    for name, _ in host.named_parameters():
        stage = re.match(r"encoder\.mit\.stages\.(\d)\.", name)
        rest = name[stage.end() :] if stage else name
        for ours, theirs in (("patch_embeddings.", "0."), ("blocks.", "1."), ("layer_norm.", "2.")):
            if stage and rest.startswith(ours):
                rest = theirs + rest.removeprefix(ours)
                break
        published[name] = f"backbone.layers.{stage[1]}.{rest}" if stage else f"decode_{rest}"
    assert {"backbone.layers.3.2.weight", "backbone.layers.0.0.layer_norm.weight"} <= set(published.values())
    return {ours for ours, theirs in published.items() if "head" not in theirs and "norm" in theirs}


def test_maskformer_clips_the_gradient_and_takes_any_crop():
    content = experiment_of("maskformer-swin-l_resfu_ade20k").settings
    assert content["trainer"]["gradient_clip_val"] == 0.01
    assert content["data"]["cat_max_ratio"] == 1.0


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("segmenter-vit-s", {"guided_filter_stride": 2}),
        ("segformer-mit-b1", {"guided_filter_stride": 2, "dilation": 2}),
    ],
)
def test_the_released_configurations_differ_in_options_of_resfu_alone(host, options):
    released, published = (read_recipe(f"{host}_ade20k{end}") for end in ("_released", ""))
    assert released["model"].pop("upsampler") == "resfu"
    assert released["model"].pop("upsampler_options") == options
    assert released == published
    found = module_of(Experiment(read_recipe(f"{host}_ade20k_released"))).host
    modules = [module for module in found.modules() if isinstance(module, resfu.ReSFU)]
    assert modules
    for module in modules:
        assert (module.guided_filter_stride, module.dilation) == (2, options.get("dilation"))


@pytest.fixture(scope="module")
def ade(tmp_path_factory):
    return write_fixture("ade20k", tmp_path_factory.mktemp("ade") / "root", count=3, size=(48, 64))


@pytest.fixture
def tiny_maskformer(monkeypatch):
    from resfu.hosts.maskformer import MaskFormer
    from resfu.hosts.swin import SwinVariant

    def build(**options):
        variant = SwinVariant(8, (1, 1, 1, 1), (1, 1, 2, 2), window_size=4)
        return MaskFormer(variant, channels=32, num_queries=8, decoder_layers=2, **options)

    monkeypatch.setitem(resfu.hosts.HOSTS, "maskformer-tiny", build)


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("pspnet-resnet50_ade20k", ["--model.host", "pspnet-tiny"]),
        ("segmenter-vit-s_ade20k", ["--model.host", "segmenter-tiny"]),
        ("segformer-mit-b1_ade20k", ["--model.host", "segformer-mit-b0"]),
        ("maskformer-swin-b_ade20k", ["--model.host", "maskformer-tiny"]),
    ],
)
def test_a_training_by_it_resumes_and_measures(recipe, options, ade, tmp_path, tiny_maskformer, monkeypatch):
    from resfu.hosts.pspnet import PSPNet
    from resfu.hosts.segmenter import Segmenter

    monkeypatch.setitem(resfu.hosts.HOSTS, "pspnet-tiny", lambda **given: PSPNet(depth=14, channels=64, **given))
    monkeypatch.setitem(resfu.hosts.HOSTS, "segmenter-tiny", lambda **given: Segmenter("s", depth=2, **given))
    small = ["--data.root", str(ade), "--data.crop_size", "[64, 64]", "--data.base_size", "[256, 64]"]
    small += ["--data.eval_size", "[256, 64]", "--data.num_workers", "0", "--data.batch_size", "2"]
    # The full rate at once, or an optimiser that lost its state would not show.
    small += ["--model.pretrained", "false", "--model.schedule.total_steps", "9", "--model.schedule.warmup_steps", "0"]
    trainer = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    fit = ["fit", "--recipe", recipe, "--upsampler", "resfu", *options, *small, *trainer, "--save_every", "1"]
    fit += ["--trainer.log_every_n_steps", "1"]

    whole, cut = ["--run", str(tmp_path / "whole")], ["--run", str(tmp_path / "cut")]
    assert main([*fit, *whole, "--trainer.max_steps", "3"]) == 0
    assert main([*fit, *cut, "--trainer.max_steps", "1"]) == 0
    assert main([*fit, *cut, "--trainer.max_steps", "3", "--checkpoint", "last"]) == 0
    seen = losses(tmp_path / "cut", 0) + losses(tmp_path / "cut", 1)
    assert seen == losses(tmp_path / "whole")  # exact equality is meant
    assert [step for step, _ in seen] == [0, 1, 2]
    assert all(0 < loss < 1000 for _, loss in seen)

    metrics = tmp_path / "metrics.json"
    assert main(["test", *cut, "--checkpoint", "last", "--metrics", str(metrics), *trainer]) == 0
    found = json.loads(metrics.read_text())
    assert 0 <= found["biou"] <= 100
    assert len(found["iou"]) == 150
