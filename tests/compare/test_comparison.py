import json

import pytest

from resfu.compare.comparison import Comparison, check_same


def test_settings_survive_json(tiny):
    settings = tiny().to_dict()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["data"]["crop_size"] == [64, 64]
    assert (settings["recipe"], settings["upsamplers"], settings["seeds"]) == ("scenes", ["bilinear", "resfu"], [0])
    assert settings["model"]["optimisation"]["weight_decay"] == 0.01  # defaults are written out
    assert "upsampler" not in settings["model"]


def test_upsampler_and_seed_are_all_that_the_experiments_differ_in(tiny):
    comparison = tiny(upsamplers=("bilinear", "resfu+groups=2"), seeds=(3, 5))
    found = comparison.experiment("resfu+groups=2", 5)
    assert (found.settings["model"]["upsampler"], found.settings["model"]["upsampler_options"]) == (
        "resfu",
        {"groups": 2},
    )
    assert found.seed == 5
    other = comparison.experiment("bilinear", 3)
    assert (other.settings["model"]["upsampler_options"], other.seed) == (None, 3)
    for one in (found.settings, other.settings):
        del one["model"]["upsampler"], one["model"]["upsampler_options"], one["seed_everything"]
    assert found.settings == other.settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upsamplers": ("bilinear", "cubist")}, "unknown upsampler 'cubist'; choose from .*resfu"),
        ({"recipe": "moon"}, "unknown recipe 'moon'; choose one of .*scenes"),
        ({"data": {"dataset": "moon"}}, "unknown dataset 'moon'; choose one of .*scenes"),
        ({"model": {"host": "none"}}, "unknown host 'none'; choose one of .*segformer-mit-b0"),
        ({"upsamplers": ()}, "upsamplers must be given"),
        ({"upsamplers": ("resfu", "resfu")}, "each only once"),
        ({"seeds": (1, 1)}, "seeds must be given and each only once"),
        ({"seeds": (-1,)}, "must not be negative"),
        ({"model": {"optimisation": {"learning_rate": 0}}}, r"learning_rate must be above 0, got 0"),
        ({"data": {"augment": "some"}}, r"unknown key data\.augment"),
        ({"data": {"crop_size": 3}}, r"data\.crop_size:\s"),
        ({"model": {"convention": "strict"}}, r"unknown key model\.convention"),
        ({"data": {"dataset": "coco"}}, "coco labels objects, which efficientnet-lite0 does not find: choose a host"),
        ({"model": {"host": "mask-rcnn-resnet50"}, "data": {"dataset": "camvid"}}, "which camvid does not label"),
        ({"model": {"host": "mask-rcnn-resnet50"}}, r"unknown key data\.crop_size"),
        ({"epochs": 3}, "unknown key epochs: settings are model, data, trainer"),
    ],
)
def test_bad_settings_are_refused(tiny, changes, message):
    parts = {key: value for key, value in changes.items() if key in ("upsamplers", "seeds", "recipe")}
    settings = {key: value for key, value in changes.items() if key not in parts}
    with pytest.raises(ValueError, match=message):
        tiny(settings, **parts)


def test_every_differing_setting_is_named(tiny):
    before, now = tiny(), tiny({"trainer": {"max_steps": 9}, "data": {"options": {"size": [32, 32]}}})
    message = r"out holds .* data\.options\.size was \[64, 64\] and is \[32, 32\]; trainer\.max_steps was 4 and is 9"
    with pytest.raises(ValueError, match=message):
        check_same(before.to_dict(), now.to_dict(), "out")


def test_upsamplers_and_seeds_may_be_added_and_the_machine_may_change(tiny):
    check_same(tiny().to_dict(), tiny(upsamplers=("nearest", "resfu"), seeds=(0, 1)).to_dict(), "out")
    changes = {"trainer": {"accelerator": "cpu", "enable_progress_bar": False}, "data": {"num_workers": 2}}
    check_same(tiny().to_dict(), tiny(changes, {"save_every": 3}).to_dict(), "out")


def test_a_file_is_a_recipe_too(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("model: {host: transunet-small}\ndata: {dataset: ct, crop_size: [32, 32]}\n")
    assert Comparison(str(file)).task.name == "volumes"
