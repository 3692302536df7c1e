"""Tile sizes of the GPU kernels that were measured to be fastest, in a table.

`python -m benchmarks.gpu --tune` writes the table, `gpu_tiles.json`. For cases that it does not contain, the rules next
to the kernels choose the tiles.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import files
from typing import Any

import torch

FILE = "gpu_tiles.json"
_forced: dict[tuple[str, str], dict[str, Any]] = {}


def tuned(kernel: str, *key: object) -> dict[str, Any]:
    """The choice that was measured to be fastest on this GPU.

    Args:
        kernel: a family of kernels, "window_sum" or "similarity".
        key: the values on which the choice depends.

    Returns:
        The chosen parameters by name; empty if nothing was measured.
    """
    name = name_of(*key)
    if (kernel, name) in _forced:
        return _forced[kernel, name]
    if not torch.cuda.is_available():
        return {}
    return _table().get(architecture(), {}).get(kernel, {}).get(name, {})


def name_of(*key: object) -> str:
    """A key as it is written in the table."""
    return " ".join(str(part).removeprefix("torch.") for part in key)


def architecture() -> str:
    """The architecture of the current GPU, such as "sm_90"."""
    return "sm_{}{}".format(*torch.cuda.get_device_capability())


@contextmanager
def forced(kernel: str, key: tuple, choice: dict[str, Any]) -> Iterator[None]:
    """A context in which a kernel uses the given choice, whatever the table contains.

    Args:
        kernel: as in `tuned`.
        key: as in `tuned`.
        choice: the parameters by name.
    """
    name = kernel, name_of(*key)
    _forced[name] = choice
    try:
        yield
    finally:
        del _forced[name]


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    return json.loads(files("resfu.ops").joinpath(FILE).read_text("utf-8"))
