"""Settings on the command line: `--model.schedule.power 1.0` overrides the setting of this name in a recipe."""

import ast
import difflib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from resfu.recipes import merge, nested

_GROUPS = ("model", "data", "trainer")
_SINGLE = ("seed_everything", "save_every")
_PACKAGE = Path(__file__).parents[1]


def take_settings(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Separate the settings from a command's own options.

    Args:
        arguments: of the command line. A setting is `--GROUP.KEY VALUE` or `--GROUP.KEY=VALUE`; the value is YAML.

    Returns:
        The other arguments, and the settings in the nested form of a recipe.

    Raises:
        ValueError: for a setting without a value, or a value that is no YAML.
    """
    rest: list[str] = []
    settings: dict[str, Any] = {}
    remaining = iter(arguments)
    for word in remaining:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not ((key.partition(".")[0] in _GROUPS and "." in key) or key in _SINGLE):
            rest.append(word)
            continue
        text = value if equals else next(remaining, None)
        if text is None:
            raise ValueError(f"--{key} needs a value.")
        try:
            settings = merge(settings, nested(key, yaml.safe_load(text)))
        except yaml.YAMLError as error:
            raise ValueError(f"--{key}: {text!r} is no YAML value: {error}.") from error
    check_keys(settings)
    return rest, settings


def check_keys(settings: Mapping[str, Any]) -> None:
    """Refuse unknown keys before anything heavy is imported; what a value must be is checked later.

    Raises:
        ValueError: for an unknown key; the message names it and a similar known key, or else all known keys.
    """
    known = known_keys()
    for group, values in settings.items():
        if group not in (*_GROUPS, *_SINGLE):
            raise ValueError(_unknown(group, (*_GROUPS, *_SINGLE)))
        if group in _SINGLE or not isinstance(values, Mapping):
            continue
        for key, value in values.items():
            inner = known[group].get(key)
            if key not in known[group]:
                raise ValueError(_unknown(f"{group}.{key}", [f"{group}.{each}" for each in known[group]]))
            if inner and isinstance(value, Mapping):
                for name in value:
                    if name not in inner:
                        choices = [f"{group}.{key}.{each}" for each in inner]
                        raise ValueError(_unknown(f"{group}.{key}.{name}", choices))


@cache
def known_keys() -> dict[str, dict[str, list[str] | None]]:
    """The known keys of each group and of their sub-groups, read from the source files without importing them.

    The keys of "model" are the arguments of the classes in `resfu/tasks` and `resfu/training` whose names end in
    "Module", those of "data" of the classes whose names end in "Data". An argument whose type names a dataclass from
    there has its fields as keys of its own.
    """
    classes = [
        each
        for name in ("tasks", "training")
        for file in sorted((_PACKAGE / name).glob("*.py"))
        for each in _classes(file)
    ]
    fields = {each.name: _fields(each) for each in classes if each.decorator_list}
    model, data = (_arguments(classes, ending) for ending in ("Module", "Data"))
    found = importlib.util.find_spec("lightning")
    trainer: dict[str, str] = {}
    if found is not None and found.submodule_search_locations:
        file = Path(found.submodule_search_locations[0]) / "pytorch" / "trainer" / "trainer.py"
        trainer = _arguments(_classes(file), "Trainer")
    return {
        "model": {
            name: next((fields[word] for word in re.findall(r"\w+", model[name]) if word in fields), None)
            for name in sorted(model.keys() - {"seed"})
        },
        "data": dict.fromkeys(sorted(data.keys() - {"mean", "std", "seed", "images"})),
        "trainer": dict.fromkeys(sorted(trainer)),
    }


def _classes(file: Path) -> list[ast.ClassDef]:
    return [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]


def _arguments(classes: Sequence[ast.ClassDef], ending: str) -> dict[str, str]:
    """The constructor arguments, with their annotations, of the classes whose names end with `ending`."""
    found: dict[str, str] = {}
    for each in classes:
        for method in each.body if each.name.endswith(ending) else ():
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                for argument in [*method.args.args[1:], *method.args.kwonlyargs]:
                    found[argument.arg] = ast.unparse(argument.annotation) if argument.annotation else ""
    return found


def _fields(dataclass: ast.ClassDef) -> list[str]:
    return [
        node.target.id
        for node in dataclass.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def _unknown(key: str, known: Sequence[str]) -> str:
    # Compare only the last part of the key: with their common prefix, all keys of a group would look similar.
    group, dot, name = key.rpartition(".")
    close = difflib.get_close_matches(name, [each.rpartition(".")[2] for each in known], n=1)
    hint = f"; did you mean {group}{dot}{close[0]}?" if close else f"; known are {', '.join(known)}."
    return f"unknown key {key}{hint}"
