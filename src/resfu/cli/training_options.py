"""The options that all training commands share, and the settings that these options stand for."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from resfu.cli.arguments import positive, rate, size
from resfu.cli.settings import check_keys, take_settings
from resfu.recipes import merge, nested, read_recipe

_MEANING = {
    "host": "model.host",
    "root": "data.root",
    "steps": "trainer.max_steps",
    "batch_size": "data.batch_size",
    "crop": "data.crop_size",
    "freeze_encoder": "model.freeze_encoder",
    "workers": "data.num_workers",
}


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that are short names of settings."""
    add = parser.add_argument
    add(
        "--host",
        metavar="NAME",
        help="another network than the recipe's (see `resfu list`), or package.module:function",
    )
    add("--root", "--data-root", metavar="DIR", help="folder of the data; of generated data that of their cache")
    add("--steps", type=positive, metavar="N", help="length of a training in optimiser steps")
    add("--batch-size", type=positive, metavar="N", help="samples a step and process")
    add("--crop", type=size, metavar="N | HxW", help="size of a training sample")
    add("--lr", type=rate, metavar="X", help="learning rate of everything outside the encoder")
    freeze = parser.add_mutually_exclusive_group()
    freeze.add_argument("--freeze-encoder", action="store_true", default=None, help="leave the encoder as it is")
    freeze.add_argument(
        "--finetune",
        dest="freeze_encoder",
        action="store_false",
        help="train the encoder too, at its own learning rate",
    )
    add("--workers", type=int, metavar="N", help="processes that load samples")
    add("--threads", type=positive, metavar="N", help="CPU threads (PyTorch's choice)")


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the short options stand for."""
    given = {key: getattr(options, name, None) for name, key in _MEANING.items()}
    return merge(*(nested(key, list(v) if isinstance(v, tuple) else v) for key, v in given.items() if v is not None))


def recipe_first(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command whose first word may be the recipe, without `--recipe` before it."""
    named = bool(arguments) and not arguments[0].startswith("-")
    return ["--recipe", *arguments] if named else list(arguments)


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The options of a command, and the settings that are given by their full names."""
    rest, settings = take_settings(arguments)
    return parser.parse_args(rest), settings


def chosen_settings(
    options: argparse.Namespace, recipe: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings that override a recipe's: those of short options, overridden by those given by full name."""
    short = settings_of(options)
    if options.lr is not None:
        optimisation = merge(recipe, settings).get("model", {}).get("optimisation", {})
        rate = options.lr / optimisation.get("head_multiplier", 1.0)
        short = merge(short, nested("model.optimisation.learning_rate", rate))
    chosen = merge(short, settings)
    return merge(chosen, _shorter_warmup(recipe, chosen))


def _shorter_warmup(recipe: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """If an option makes a training shorter than its warm-up, warm up for a tenth of its steps, and print this.

    A warm-up length given by the user, or a total length set for the schedule, is left as it is; a conflict is refused
    later.
    """
    given, trainer = chosen.get("model", {}).get("schedule", {}), chosen.get("trainer", {})
    schedule = merge(recipe.get("model", {}).get("schedule", {}), given)
    steps = int(trainer.get("fast_dev_run") or trainer.get("max_steps") or 0)
    warmup = schedule.get("warmup_steps", 0)
    if steps <= 0 or "warmup_steps" in given or schedule.get("total_steps") or warmup < steps:
        return {}
    print(
        f"resfu: a warm-up of {warmup} steps is too long for {steps} steps: {steps // 10} instead "
        "(--model.schedule.warmup_steps sets another)",
        file=sys.stderr,
    )
    return nested("model.schedule.warmup_steps", steps // 10)


def read_recipes(names: Sequence[str]) -> dict[str, Any]:
    """Merge several recipes, later ones overriding earlier ones, and check their keys.

    Raises:
        ValueError: for an unknown recipe or key.
    """
    settings = merge(*(read_recipe(name) for name in names))
    for old in ("run", "ckpt_path"):  # files of resfu 0.1 may hold them
        settings.pop(old, None)
    if isinstance(settings.get("data"), dict):
        settings["data"].pop("augmentation", None)
    check_keys(settings)
    return settings


SETTINGS_HELP = (
    "Every setting of a recipe is an option too: --model.KEY, --data.KEY and --trainer.KEY with a value, such as "
    "--model.optimisation.learning_rate 0.01 (`resfu list settings` shows them)."
)
