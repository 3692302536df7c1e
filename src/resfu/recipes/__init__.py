"""Recipes: the settings of a training in YAML files, of the package or of your own, that build on one another."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The recipes in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_recipe(name: str | Path) -> dict[str, Any]:
    """The settings of a recipe.

    Args:
        name: one of `recipe_names`, or a YAML file. `base` in such a file is a list of files, relative to it, whose
            settings it builds on; they may have bases themselves.

    Returns:
        Nested dictionaries: "model", "data", "trainer" and single settings. What a file says takes precedence over its
        bases, and a later base over an earlier one.

    Raises:
        ValueError: for an unknown name, a file that holds no settings, a `base` that is not a list of files, or files
            that build on one another in a circle.
        FileNotFoundError: for a file or base that is not there.
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
    """Settings one over the other: the later ones take precedence, group by group.

    Another upsampler takes none of the earlier one's options, nor does another data set.
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
    """Settings that hold one value, by its dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def changes(before: Mapping[str, Any], now: Mapping[str, Any], may_change: Collection[str] = ()) -> str:
    """The settings that differ, with both values; "" if none does.

    Args:
        before: settings as YAML and JSON have them, see `listed`.
        now: the same.
        may_change: dotted keys that are not compared.
    """
    old, new = flattened(before), flattened(now)
    keys = [key for key in {**old, **new} if key not in may_change and old.get(key) != new.get(key)]
    return "; ".join(f"{key} was {old.get(key)!r} and is {new.get(key)!r}" for key in keys)


def listed(value: Any) -> Any:
    """Settings with lists in place of tuples, as YAML and JSON have them."""
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
