"""Files of settings: those of the package, one's own, and what they build on."""

import pytest

from resfu.compare.reproduce.rows import recipe_name
from resfu.data import DATASETS
from resfu.recipes import flattened, merge, nested, read_recipe, recipe_names
from resfu.tasks.experiment import Experiment
from tests.support.published import ROWS

PUBLISHED = {recipe_name(row) for row in ROWS}
OTHERS = [name for name in recipe_names() if name not in PUBLISHED]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "top.yaml").write_text("base: [deep/a.yaml, deep/b.yaml]\nmodel: {host: x}\n")
    (tmp_path / "deep" / "a.yaml").write_text("base: [c.yaml]\nmodel: {host: a, pretrained: true}\nsave_every: 1\n")
    (tmp_path / "deep" / "b.yaml").write_text("save_every: 2\ndata: {root: b}\n")
    (tmp_path / "deep" / "c.yaml").write_text("data: {root: c, dataset: c}\nsave_every: 3\n")
    (tmp_path / "circle.yaml").write_text("base: [circle.yaml]\n")
    (tmp_path / "plain.yaml").write_text("model: {host: x}\n")
    (tmp_path / "broken.yaml").write_text("model: [")
    (tmp_path / "bytes.yaml").write_bytes(b"\x89PNG\xff")
    (tmp_path / "on-bytes.yaml").write_text("base: [bytes.yaml]\n")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "list.yaml").write_text("- model\n")
    (tmp_path / "word.yaml").write_text("base: missing.yaml\n")
    (tmp_path / "missing-base.yaml").write_text("base: [missing.yaml]\n")
    return tmp_path


def test_a_file_takes_precedence_over_its_bases_and_later_bases_over_earlier_ones(files):
    assert read_recipe(files / "top.yaml") == {
        "model": {"host": "x", "pretrained": True},
        "data": {"root": "b", "dataset": "c"},
        "save_every": 2,
    }
    assert read_recipe(str(files / "plain.yaml")) == {"model": {"host": "x"}}


def test_circles_are_refused(files):
    with pytest.raises(ValueError, match=r"circle\.yaml builds on itself"):
        read_recipe(files / "circle.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"broken\.yaml is not a YAML file: "),
        ("bytes", r"bytes\.yaml is not a YAML file: "),
        ("on-bytes", r"[/\\]bytes\.yaml is not a YAML file: "),
        ("empty", r"empty\.yaml holds nothing; expected the settings"),
        ("list", r"list\.yaml holds a list; expected the settings"),
        ("word", "`base` in .* must be a list of files, got 'missing.yaml'"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(files, name, message):
    with pytest.raises(ValueError, match=message):
        read_recipe(files / f"{name}.yaml")


def test_what_is_not_there_is_named(files):
    with pytest.raises(FileNotFoundError, match=r"there is no recipe .*absent\.yaml"):
        read_recipe(files / "absent.yaml")
    with pytest.raises(FileNotFoundError, match=r"missing-base\.yaml builds on .*missing\.yaml, which is not there"):
        read_recipe(files / "missing-base.yaml")
    with pytest.raises(ValueError, match=r"unknown recipe 'scene'; choose one of camvid, .*scenes, .* or a YAML file"):
        read_recipe("scene")


def test_settings_one_over_the_other():
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"d": 4}) == {"a": {"b": 1, "c": 3}, "d": 4}
    before = {"model": {"upsampler": "resfu", "upsampler_options": {"groups": 2}}}
    assert merge(before, {"model": {"upsampler": "fade"}}) == {"model": {"upsampler": "fade"}}
    assert merge(before, {"model": {"upsampler": "resfu", "pretrained": True}})["model"]["upsampler_options"]
    assert before["model"]["upsampler_options"] == {"groups": 2}  # nothing is changed in place
    data = {"dataset": "scenes", "options": {"size": 64}, "train_options": {"count": 2}, "num_workers": 0}
    assert merge({"data": data}, {"data": {"dataset": "folder"}}) == {"data": {"dataset": "folder", "num_workers": 0}}
    own = {"options": {"classes": "a"}, "dataset": "folder"}  # in any order
    assert merge({"data": data}, {"data": own})["data"]["options"] == {"classes": "a"}
    assert merge({"data": data}, {"data": {"dataset": "scenes"}})["data"] == data
    assert nested("a.b.c", 1) == {"a": {"b": {"c": 1}}}
    assert flattened({"a": {"b": {"c": 1}, "d": 2}, "e": 3}) == {"a.b.c": 1, "a.d": 2, "e": 3}


def test_the_recipes_of_rows_and_those_with_a_name_of_their_own_are_there():
    assert set(recipe_names()) >= PUBLISHED
    assert set(OTHERS) >= {
        "camvid",
        "cardiac",
        "ct",
        "scenes",
        "scenes-instances",
        "scenes-panoptic",
        "segformer-mit-b0_camvid",
        "segformer-mit-b1_ade20k_released",
        "segmenter-vit-s_ade20k_released",
    }


# Those of the published rows have tests of their own.
@pytest.mark.parametrize("name", OTHERS)
def test_the_others_build(name):
    experiment = Experiment(read_recipe(name), {"model": {"pretrained": False}})
    model, trainer = experiment.settings["model"], experiment.settings["trainer"]
    data = experiment.settings["data"]["dataset"]
    module = experiment.create_module()
    assert (module.hparams["host"], module.hparams["upsampler"]) == (model["host"], "resfu")
    if data in DATASETS and experiment.task.name in ("label maps", "volumes"):
        assert module.hparams["num_classes"] == len(DATASETS[data].classes)
        assert experiment.create_data(module).classes == DATASETS[data].classes
    assert experiment.create_trainer(enable_progress_bar=False, logger=False).max_steps == trainer["max_steps"]
    assert trainer["max_steps"] > module.schedule.warmup_steps >= 0


def test_segformer_recipes_have_the_published_settings():
    model = read_recipe("segformer-mit-b1_ade20k")["model"]
    assert model["optimisation"] == {
        "method": "adamw",
        "learning_rate": 6e-5,
        "weight_decay": 0.01,
        "head_multiplier": 10.0,
        "undecayed": "encoder_block_norms",
    }
    assert model["schedule"] == {"power": 1.0, "minimum": 0.0, "warmup_steps": 1500, "warmup_ratio": 1e-6}
    for name in ("scenes", "camvid", "segformer-mit-b0_camvid"):
        assert read_recipe(name)["model"]["optimisation"]["head_multiplier"] == 10
