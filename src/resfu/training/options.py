"""Groups of settings, as a task takes them and as a checkpoint keeps them."""

from collections.abc import Mapping
from typing import Any, TypeVar

_Options = TypeVar("_Options")


def as_options(kind: type[_Options], value: _Options | Mapping[str, Any]) -> _Options:
    """The options as they are, or built from the plain values that a checkpoint keeps."""
    return kind(**value) if isinstance(value, Mapping) else value
