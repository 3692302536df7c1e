"""Where the numbers go: benchmarks/results/NAME.json, with the machine they were taken on."""

from pathlib import Path

import torch

from resfu.compare.machine import describe_machine, describe_versions
from resfu.files.atomic import write_json

FOLDER = Path(__file__).parent / "results"


def save(name: str, rounds: int, rows: list[dict], pages_kept: bool = False) -> Path:
    """Write the rows of a benchmark; returns the file.

    Args:
        name: of the file.
        rounds: that were measured.
        rows: the numbers.
        pages_kept: whether `resfu.keep_pages` was called before, which changes the numbers.
    """
    target = FOLDER / f"{name}.json"
    machine = {**describe_machine(), "threads": torch.get_num_threads()}
    record = {"machine": machine, "versions": describe_versions(), "rounds": rounds}
    record |= {"pages_kept": pages_kept, "rows": rows}
    write_json(target, record)
    return target
