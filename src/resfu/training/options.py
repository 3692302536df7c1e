"""Groups of settings, as a task or a data set takes them and as a checkpoint keeps them."""

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

_Options = TypeVar("_Options")


def as_options(kind: type[_Options], value: _Options | Mapping[str, Any]) -> _Options:
    """The options as they are, or built from the plain values that a checkpoint keeps."""
    return kind(**value) if isinstance(value, Mapping) else value


def dataset_options(dataset: type, damage: Mapping[str, Any], *given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The further arguments of a data set's class.

    Args:
        dataset: the class.
        damage: what unreadable files lead to, such as "on_error", for a class that can be told.
        given: groups of arguments; later ones go before earlier ones, and all before `damage`.
    """
    known = inspect.signature(dataset).parameters
    options = {key: value for key, value in damage.items() if key in known}
    for group in given:
        options.update(group or {})
    return options
