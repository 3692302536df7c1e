"""Where the numbers go and come from: benchmarks/results/NAME.json, with the machine they were taken on."""

import json
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


def measured(name: str) -> list[dict]:
    """The rows of benchmarks/results/NAME.json; none where that is not there."""
    return record(name).get("rows", [])


def record(name: str) -> dict:
    """The contents of benchmarks/results/NAME.json; empty where that is not there."""
    file = FOLDER / f"{name}.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def where(name: str) -> list[str]:
    """A line about the machine that a result was measured on, after an empty one."""
    found = record(name)
    machine, versions = found["machine"], found["versions"]
    cores = f"{machine['cores']} cores, {machine['threads']} threads"
    software = f"Python {versions['python']}, PyTorch {versions['torch']}"
    return [
        "",
        f"Measured on {machine['processor']}, {cores}, {machine['system']}; {software}; {_times(found['rounds'])}.",
    ]


def _times(rounds: int) -> str:
    return f"{rounds} rounds" if rounds > 1 else "1 round"
