"""The arguments of modules and data modules: as they take them, and as a checkpoint keeps them."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

_Options = TypeVar("_Options")


def as_options(kind: type[_Options], value: _Options | Mapping[str, Any]) -> _Options:
    """The options as they are, or built from the plain values that a checkpoint keeps."""
    return kind(**value) if isinstance(value, Mapping) else value


def plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a constructor was called with, as a checkpoint that loads with `weights_only=True` can hold it.

    Args:
        arguments: `locals()` at the constructor's first line; the catch-all `**shared` is taken apart.

    Returns:
        The arguments without `self`; a dataclass as its dictionary.
    """
    given = {key: value for key, value in arguments.items() if key not in ("self", "__class__", "shared")}
    given |= arguments.get("shared", {})
    return {
        key: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for key, value in given.items()
    }


def dataset_options(dataset: type, on_error: str, *given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The further arguments of a data set's class.

    Args:
        dataset: the class.
        on_error: what an unreadable file leads to, for a class that can be told.
        given: groups of arguments; later ones take precedence over earlier ones, and all over `on_error`.
    """
    options = {"on_error": on_error} if "on_error" in inspect.signature(dataset).parameters else {}
    for group in given:
        options.update(group or {})
    return options
