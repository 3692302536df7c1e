"""Datasets by name."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from resfu.data.base import Transform
from resfu.files.libraries import own_module

D = TypeVar("D")


def find_dataset(datasets: Mapping[str, type[D]], name: str) -> type[D]:
    """The class of a dataset.

    Args:
        datasets: classes by name.
        name: one of them, or "package.module:Class" for an importable class of your own.

    Raises:
        ValueError: for an unknown name (the message lists the known ones), or a class that cannot be imported.
    """
    if name in datasets:
        return datasets[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(
            f"unknown dataset {name!r}; choose one of {', '.join(sorted(datasets))}, or give package.module:Class."
        )
    try:
        found = getattr(own_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:  # a ValueError for an empty name
        raise ValueError(f"the dataset {name!r} cannot be imported: {error}.") from error
    if not isinstance(found, type):
        raise ValueError(f"the dataset {name!r} is {found!r}; expected a class, see docs/own_data.md.")
    return found


def open_dataset(
    datasets: Mapping[str, type[D]],
    name: str,
    split: str,
    root: str | Path | None,
    transform: Transform | None,
    options: Mapping[str, Any],
) -> D:
    """Find a dataset's class (see `find_dataset`) and create it with the other arguments.

    Raises:
        ValueError: for an unknown name or option; the message lists the known ones.
    """
    dataset = find_dataset(datasets, name)
    known = [key for key in inspect.signature(dataset).parameters if key not in ("split", "root", "transform")]
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(f"dataset {name!r} has no option {', '.join(unknown)}; its options are {', '.join(known)}.")
    return dataset(split=split, root=root, transform=transform, **options)  # pyright: ignore[reportCallIssue]
