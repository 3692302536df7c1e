"""Import of libraries that are installed with an extra of the package, and of modules that users name."""

import os
import sys
from importlib import import_module
from types import ModuleType
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


def own_module(name: str) -> ModuleType:
    """Import a module that a user names, also from the current folder, which is searched last.

    Python itself searches the current folder for `python -m resfu`, but not for the command `resfu`.
    """
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    return import_module(name)
