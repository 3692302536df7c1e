"""Recipes: the settings of a training in YAML files, from the package or your own, which can build on one another."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The names of the recipes in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_recipe(name: str | Path) -> dict[str, Any]:
    """Read the settings of a recipe.

    Args:
        name: one of `recipe_names`, or a YAML file. `base` in such a file is a list of files (with paths relative to
            it) on whose settings it builds; these may have bases themselves.

    Returns:
        Nested dictionaries: "model", "data", "trainer" and single settings. The settings of a file take precedence over
        those of its bases, and a later base over an earlier one.

    Raises:
        ValueError: for an unknown name, a file without settings, a `base` that is not a list of files, or files that
            build on one another in a circle.
        FileNotFoundError: for a file or base that does not exist.
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file() or Path(name).suffix:
        path = Path(name)
        if not path.is_file():
            if path.suffix in (".yaml", ".yml"):
                raise FileNotFoundError(f"there is no recipe {path}.")
            raise ValueError(
                f"unknown recipe {str(name)!r}; choose one of {', '.join(recipe_names())}, or a YAML file."
            )
    return _read(path, ())


_OPTIONS = {"upsampler": ("upsampler_options",), "dataset": ("options", "train_options", "eval_options")}


def merge(*groups: Mapping[str, Any]) -> dict[str, Any]:
    """Merge groups of settings; later ones take precedence, key by key in nested groups.

    If a later group changes the upsampler or the data set, the options of the earlier one are dropped.
    """
    result: dict[str, Any] = {}
    for group in groups:
        for key, options in _OPTIONS.items():
            if key in group and key in result and group[key] != result[key]:
                result = {name: value for name, value in result.items() if name not in options}
        for key, value in group.items():
            before = result.get(key)
            if isinstance(value, Mapping):
                value = merge(before, value) if isinstance(before, Mapping) else merge(value)
            result[key] = value
    return result


def nested(key: str, value: Any) -> dict[str, Any]:
    """Nested settings with a single value, given by its dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as a flat dictionary with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def changes(before: Mapping[str, Any], now: Mapping[str, Any], may_change: Collection[str] = ()) -> str:
    """A text with the settings that differ, and both values; "" if none does.

    Args:
        before: the old settings, as in YAML and JSON, see `listed`.
        now: the new settings.
        may_change: dotted keys that are not compared.
    """
    old, new = flattened(before), flattened(now)
    keys = [key for key in {**old, **new} if key not in may_change and old.get(key) != new.get(key)]
    return "; ".join(f"{key} was {old.get(key)!r} and is {new.get(key)!r}" for key in keys)


def listed(value: Any) -> Any:
    """Settings with lists in place of tuples, as in YAML and JSON."""
    if isinstance(value, dict):
        return {key: listed(inner) for key, inner in value.items()}
    return [listed(inner) for inner in value] if isinstance(value, list | tuple) else value


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise ValueError(f"{path} builds on itself: take it out of the `base` of {above[-1]}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not a YAML file: {error}.") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ValueError(f"{path} holds {found}; expected the settings of a training by their names, as in a recipe.")
    names = content.pop("base", None) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"`base` in {path} must be a list of files, got {names!r}.")
    bases = []
    for name in names:
        base = path.parent / name
        if not base.is_file():
            raise FileNotFoundError(f"{path} builds on {base}, which is not there.")
        bases.append(_read(base, (*above, path.resolve())))
    return merge(*bases, content)
