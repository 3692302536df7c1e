"""Settings among the words of a command, checked before anything heavy is imported."""

import resource
import subprocess
import sys

import pytest

from resfu.cli.settings import check_keys, known_keys, take_settings
from resfu.recipes import read_recipe, recipe_names
from resfu.tasks import TASKS
from resfu.tasks.experiment import parser

PROBE = """
import sys
from resfu.cli import main
code = main(sys.argv[1:])
heavy = {"torch", "lightning", "jsonargparse", "numpy", "torchvision", "timm", "transformers"} & set(sys.modules)
print("heavy:", sorted(heavy))
sys.exit(code)
"""


def test_settings_are_separated_from_other_words():
    words = [
        "a",
        "--model.host",
        "x",
        "--b",
        "--data.options={size: [1, 2]}",
        "--save_every",
        "3",
        "--trainer.x",
        "null",
    ]
    with pytest.raises(ValueError, match=r"unknown key trainer\.x; known are "):
        take_settings(words)
    rest, settings = take_settings(words[:-2])
    assert rest == ["a", "--b"]
    assert settings == {"model": {"host": "x"}, "data": {"options": {"size": [1, 2]}}, "save_every": 3}
    assert take_settings(["--model.schedule.power", "1.0", "--model.schedule.minimum", "0"])[1] == {
        "model": {"schedule": {"power": 1.0, "minimum": 0}}
    }
    assert take_settings(["--model.pretrained", "false", "--trainer.max_time", "null"])[1] == {
        "model": {"pretrained": False},
        "trainer": {"max_time": None},
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.host"], "--model.host needs a value"),
        (["--model.host", "[x"], "--model.host: '.x' is no YAML value"),
        (["--model.hots", "x"], r"unknown key model\.hots; did you mean model\.host\?"),
        (["--model.schedule.powr", "1"], r"unknown key model\.schedule\.powr; did you mean model\.schedule\.power\?"),
        (["--data.frobnicate", "1"], r"unknown key data\.frobnicate; known are data\.base_size"),
        (["--trainer.max_step", "1"], r"did you mean trainer\.max_steps\?"),
    ],
)
def test_what_is_no_setting_is_named(words, message):
    with pytest.raises(ValueError, match=message):
        take_settings(words)


@pytest.mark.parametrize("task", TASKS)
def test_the_keys_read_from_the_sources_are_those_of_the_parser(task):
    known, accepted = known_keys(), parser(TASKS[task]).get_defaults().as_dict()
    for group in ("model", "data", "trainer"):
        assert accepted[group].keys() <= known[group].keys(), group
    for key in ("optimisation", "schedule", "inference"):
        if key in accepted["model"]:
            assert set(accepted["model"][key]) == set(known["model"][key] or ())


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipes_hold_known_keys(name):
    check_keys(read_recipe(name))


def seconds_of_children():
    """Of the processor: what others do at the same time does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["fit", "--recipe", "scenes", "--model.hots", "x"], "unknown key model.hots; did you mean model.host?"),
        (["compare", "--output", "x", "--data.crop_sise", "3"], "did you mean data.crop_size?"),
        (["predict", "x.png", "--checkpoint", "y.ckpt", "--model.hots", "x"], "unknown key model.hots"),
        (["fit", "--recipe", "scene"], "unknown recipe 'scene'"),
        (["fit", "scene"], "unknown recipe 'scene'"),
        (["compare", "scene", "--output", "x"], "unknown recipe 'scene'"),
        (["fit", "--steps", "3", "scenes"], "scenes: a recipe is the first word, or follows --recipe"),
        (["fit", "--frobnicate", "3"], "unrecognized arguments: --frobnicate 3"),
    ],
)
def test_a_wrong_word_waits_for_nothing(words, line, tmp_path):
    command = [sys.executable, "-c", PROBE, *words]
    began = seconds_of_children()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert seconds_of_children() - began < 1.5
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == "heavy: []\n"
    assert list(tmp_path.iterdir()) == []
