"""Where the numbers go: benchmarks/results/NAME.json, with the machine they were taken on."""

from pathlib import Path

import torch

from resfu.compare.machine import describe_machine, describe_versions
from resfu.files.atomic import write_json

FOLDER = Path(__file__).parent / "results"


def save(name: str, rounds: int, rows: list[dict]) -> Path:
    """Write the rows of a benchmark; returns the file."""
    target = FOLDER / f"{name}.json"
    machine = {**describe_machine(), "threads": torch.get_num_threads()}
    record = {"machine": machine, "versions": describe_versions(), "rounds": rounds, "rows": rows}
    write_json(target, record)
    return target
