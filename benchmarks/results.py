"""Where the numbers go: benchmarks/results/NAME.json, with the machine they were taken on."""

import json
from pathlib import Path

import torch

from resfu.compare.machine import describe_machine, describe_versions

FOLDER = Path(__file__).parent / "results"


def save(name: str, rounds: int, rows: list[dict]) -> Path:
    """Write the rows of a benchmark; returns the file."""
    FOLDER.mkdir(exist_ok=True)
    target = FOLDER / f"{name}.json"
    machine = {**describe_machine(), "threads": torch.get_num_threads()}
    record = {"machine": machine, "versions": describe_versions(), "rounds": rounds, "rows": rows}
    target.write_text(json.dumps(record, indent=1) + "\n")
    return target
