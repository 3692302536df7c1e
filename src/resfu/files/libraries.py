"""Import of libraries that are installed with an extra of the package."""

from importlib import import_module
from typing import Any


def library(name: str, extra: str = "hub") -> Any:
    """Import a library that reads and writes files.

    Raises:
        ModuleNotFoundError: if it is not installed; the message says what to install.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ModuleNotFoundError(
            f'saving and loading need {name.partition(".")[0]}: pip install "resfu[{extra}]".', name=error.name
        ) from error
