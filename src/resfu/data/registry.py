"""Datasets by name."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from resfu.data.base import Transform

D = TypeVar("D")


def open_dataset(
    datasets: Mapping[str, type[D]],
    name: str,
    split: str,
    root: str | Path | None,
    transform: Transform | None,
    options: Mapping[str, Any],
) -> D:
    """Make a dataset of a registry.

    Args:
        datasets: classes by name.
        name: one of them.
        split: for the class.
        root: for the class.
        transform: for the class.
        options: its further arguments.

    Raises:
        ValueError: for an unknown name or option; the message lists the known ones.
    """
    if name not in datasets:
        raise ValueError(f"unknown dataset {name!r}; choose one of {', '.join(sorted(datasets))}.")
    dataset = datasets[name]
    known = [key for key in inspect.signature(dataset).parameters if key not in ("split", "root", "transform")]
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(f"dataset {name!r} has no option {', '.join(unknown)}; its options are {', '.join(known)}.")
    return dataset(split=split, root=root, transform=transform, **options)  # pyright: ignore[reportCallIssue]
