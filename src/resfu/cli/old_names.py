"""Options of `resfu compare` in version 0.1, accepted until 0.3: what settings they stand for today."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from resfu.cli.arguments import Parser, positive, size, volume_size
from resfu.recipes import merge, nested, recipe_names

_KEYS = {
    "pretrained": "model.pretrained",
    "size": "data.options.size",
    "volume_size": "data.options.size",
    "difficulty": "data.options.difficulty",
    "train_images": "data.train_options.count",
    "val_images": "data.eval_options.count",
    "convention": "model.convention",
}


def take_old_names(words: Sequence[str]) -> tuple[list[str], str | None, dict[str, Any]]:
    """Separate old options from the others, and say on stderr what their new form is.

    Args:
        words: of the command line.

    Returns:
        The other words, the recipe that `--data` stands for, and the settings.
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
    old, rest = parser.parse_known_args(list(words))
    given = {key: value for key, value in vars(old).items() if value is not None}
    if not given:
        return rest, None, {}
    settings = merge(*(nested(_KEYS[key], _listed(value)) for key, value in given.items() if key in _KEYS))
    if old.size is not None:  # scenes were cropped to their size
        settings = merge(settings, nested("data.crop_size", _listed(old.size)))
    if old.augment is not None:
        full = old.augment == "full"
        settings = merge(settings, {"data": {"scale_range": [0.5, 2.0] if full else [1.0, 1.0], "photometric": full}})
    if old.host_options is not None:
        from resfu.evaluation.published import option_from

        settings = merge(settings, nested("model.host_options", dict(map(option_from, old.host_options))))
    recipe = old.data if old.data in recipe_names() else None
    if old.data is not None and recipe is None:
        settings = merge(settings, nested("data.dataset", old.data))
    names = ", ".join(f"--{key.replace('_', '-')}" for key in given)
    new = "a recipe and its settings: --recipe NAME, --data.KEY VALUE, --model.KEY VALUE"
    print(f"resfu: {names}: old names, which will go in 0.3; use {new} (`resfu compare --help`)", file=sys.stderr)
    return rest, recipe, settings


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
