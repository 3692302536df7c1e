"""Settings on the command line: `--model.schedule.power 1.0` is what a recipe says under the same name."""

import ast
import difflib
import importlib.util
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
        The other arguments, and the settings as a recipe has them.

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
        ValueError: that names the key and the nearest known one.
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
    """The keys of each group, some with keys of their own, read from the sources without importing them."""
    groups = {"optimisation": "training/parameter_groups.py", "schedule": "training/schedule.py"}
    inner = {name: _fields(_PACKAGE / file, name.capitalize()) for name, file in groups.items()}
    inner["inference"] = _fields(_PACKAGE / "tasks/label_maps.py", "Inference")
    base = _PACKAGE / "tasks/objects.py"  # takes what its subclasses make of their arguments
    tasks = [file for file in (_PACKAGE / "tasks").glob("*.py") if file != base]
    model = {name for file in tasks for name in _arguments(file, "Module")}
    data = {name for file in [*tasks, _PACKAGE / "training/data.py"] for name in _arguments(file, "Data")}
    found = importlib.util.find_spec("lightning")
    trainer: set[str] = set()
    if found is not None and found.submodule_search_locations:
        place = Path(found.submodule_search_locations[0]) / "pytorch" / "trainer" / "trainer.py"
        trainer = set(_arguments(place, "Trainer"))
    return {
        "model": {name: inner.get(name) for name in sorted(model - {"seed"})},
        "data": dict.fromkeys(sorted(data - {"mean", "std", "seed", "images"})),
        "trainer": dict.fromkeys(sorted(trainer)),
    }


def _arguments(file: Path, ending: str) -> list[str]:
    """The constructor arguments of the classes of a file whose names end so."""
    names: list[str] = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith(ending):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    names += [each.arg for each in [*method.args.args[1:], *method.args.kwonlyargs]]
    return names


def _fields(file: Path, name: str) -> list[str]:
    """The fields of a dataclass."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return [
                each.target.id
                for each in node.body
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
            ]
    raise AssertionError(f"{file} defines no {name}.")


def _unknown(key: str, known: Sequence[str]) -> str:
    # Only the last part may be misspelt: what the others share would make everything alike.
    group, dot, name = key.rpartition(".")
    close = difflib.get_close_matches(name, [each.rpartition(".")[2] for each in known], n=1)
    hint = f"; did you mean {group}{dot}{close[0]}?" if close else f"; known are {', '.join(known)}."
    return f"unknown key {key}{hint}"
