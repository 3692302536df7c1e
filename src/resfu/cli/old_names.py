"""Names of version 0.1, accepted until 0.3: options of `resfu compare`, and `resfu upsample`."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from resfu.cli.arguments import Parser, positive, size, volume_size
from resfu.recipes import listed, merge, nested, read_recipe, recipe_names

_KEYS = {
    "pretrained": "model.pretrained",
    "size": "data.options.size",
    "volume_size": "data.options.size",
    "difficulty": "data.options.difficulty",
    "train_images": "data.train_options.count",
    "val_images": "data.eval_options.count",
    "convention": "model.convention",
}


_STUFF_PART = 72  # of a scene's pixels; fewer of one kind of stuff were void


def take_old_names(arguments: Sequence[str]) -> tuple[list[str], str, dict[str, Any]]:
    """Separate old options from the others, and print the new form of each to stderr.

    Args:
        arguments: of the command line.

    Returns:
        The other arguments, the recipe that `--data` and `--host` stand for, and the settings.
    """
    parser = Parser(prog="resfu compare", add_help=False, allow_abbrev=False)
    add = parser.add_argument
    add("--data")
    add("--pretrained", action=argparse.BooleanOptionalAction)
    add("--augment", choices=["flip", "full"])
    add("--size", type=size)
    add("--volume-size", type=volume_size)
    add("--difficulty", type=float)
    add("--train-images", type=positive)
    add("--val-images", type=positive)
    add("--convention", choices=["transunet", "strict"])
    add("--host-options", nargs="+")
    add("--validations", type=positive)
    old, rest = parser.parse_known_args(list(arguments))
    given = {key: value for key, value in vars(old).items() if value is not None}
    today = Parser(prog="resfu compare", add_help=False, allow_abbrev=False)
    for name in ("--host", "--steps", "--recipe"):
        today.add_argument(name)
    seen, _ = today.parse_known_args(rest)
    recipe = seen.recipe or _recipe(seen.host, old.data)
    if not given:
        return rest, recipe, {}
    settings = merge(*(nested(_KEYS[key], listed(value)) for key, value in given.items() if key in _KEYS))
    if old.size is not None:  # scenes were seen as they are
        least, most = min(old.size), max(old.size)
        seen_as = {
            "scenes-instances": {"model": {"host_options": {"min_size": least, "max_size": most}}},
            "scenes-panoptic": {
                "model": {
                    "host_options": {"min_size": least, "max_size": most, "stuff_area": least * most // _STUFF_PART}
                }
            },
        }
        settings = merge(settings, seen_as.get(recipe, nested("data.crop_size", listed(old.size))))
    if old.pretrained is False and "--freeze-encoder" not in rest:
        settings = merge(settings, nested("model.freeze_encoder", False))
    if old.validations is not None:
        steps = int(seen.steps) if seen.steps and seen.steps.isdecimal() else _steps(recipe)
        settings = merge(settings, nested("trainer.val_check_interval", max(1, steps // old.validations)))
    if old.augment is not None:
        full = old.augment == "full"
        settings = merge(settings, {"data": {"scale_range": [0.5, 2.0] if full else [1.0, 1.0], "photometric": full}})
    if old.host_options is not None:
        from resfu.evaluation.published import option_from

        settings = merge(settings, nested("model.host_options", dict(map(option_from, old.host_options))))
    if old.data not in (None, read_recipe(recipe)["data"]["dataset"]):  # the recipe's have options of their own
        own = {"dataset": old.data, "options": None, "train_options": None, "eval_options": None}
        settings = merge({"data": own}, settings)
    names = ", ".join(f"--{key.replace('_', '-')}" for key in given)
    new = "a recipe and its settings: --recipe NAME, --data.KEY VALUE, --model.KEY VALUE"
    print(f"resfu: {names}: old names, which will go in 0.3; use {new} (`resfu compare --help`)", file=sys.stderr)
    return rest, recipe, settings


def upsample(argv: Sequence[str]) -> int:
    """Run `resfu figure features` on the arguments after `resfu upsample`; returns the exit code."""
    from resfu.cli.figure import run

    print("resfu: upsample: an old name, which will go in 0.3; use `resfu figure features`", file=sys.stderr)
    parser = Parser(prog="resfu upsample", add_help=False, allow_abbrev=False)
    parser.add_argument("--checkpoint")
    old, rest = parser.parse_known_args(list(argv))
    # It took one checkpoint, before or behind the photos, and showed two upsamplers of it.
    checkpoint = [] if old.checkpoint is None else ["--checkpoint", old.checkpoint]
    return run(["features", "--output", "features", "--upsamplers", "bilinear,resfu", *rest, *checkpoint])


def _recipe(host: str | None, data: str | None) -> str:
    """The small recipe of the task that a network and its data make."""
    for begin, name in (("mask-rcnn", "scenes-instances"), ("panoptic-fpn", "scenes-panoptic")):
        if host is not None and host.startswith(begin):
            return name
    if data in ("synapse", "acdc"):
        return "ct"
    return data if data in recipe_names() else "scenes"


def _steps(recipe: str) -> int:
    """The number of training steps of a recipe."""
    return read_recipe(recipe).get("trainer", {}).get("max_steps", 1)
