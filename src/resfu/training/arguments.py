"""Conversion of the arguments of modules and data modules, to and from the plain values in a checkpoint."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

_Options = TypeVar("_Options")


def as_options(kind: type[_Options], value: _Options | Mapping[str, Any]) -> _Options:
    """Return options unchanged, or build them from the plain values in a checkpoint."""
    return kind(**value) if isinstance(value, Mapping) else value


def plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor as plain values, for a checkpoint that loads with `weights_only=True`.

    Args:
        arguments: `locals()` at the constructor's first line; the entries of `**shared` are included one by one.

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
        on_error: what to do about an unreadable file; only passed to classes with such an argument.
        given: groups of arguments; later groups take precedence over earlier ones, and all over `on_error`.
    """
    options = {"on_error": on_error} if "on_error" in inspect.signature(dataset).parameters else {}
    for group in given:
        options.update(group or {})
    return options
