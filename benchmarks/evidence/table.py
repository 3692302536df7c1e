"""The tables of docs/evidence.md and README from the trainings that are there."""

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import results as measurements
from benchmarks.evidence import cost
from benchmarks.evidence.intervals import paired_difference, row_scores
from benchmarks.evidence.protocol import DISTANCES, ROWS
from benchmarks.results import FOLDER

Results = dict[str, list[dict[str, Any]]]


def read(protocol: str, folder: Path = FOLDER / "evidence") -> Results:
    """The finished trainings of a protocol, by row in the order of `ROWS`.

    Args:
        protocol: encoder and steps, such as "frozen-2400".
        folder: of the JSON files.
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted((folder / protocol / "final").glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        found[result["row"]].append(result)
    return {name: found[name] for name in ROWS if name in found}


def table(results: Results) -> list[str]:
    """Quality, gain over bilinear and cost of each row, as lines of Markdown."""
    lines = [
        "| upsampler | seeds | mIoU | bIoU | mIoU over bilinear | bIoU over bilinear | learning rate | training (s) |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, runs in results.items():
        found = row_scores(runs)
        gains = ["", ""]
        if name != "bilinear" and "bilinear" in results:
            gains = [_interval(gain) for gain in paired_difference(results["bilinear"], runs).values()]
        seconds = statistics.median(run["training_seconds"] for run in runs)
        cells = [name, str(len(runs)), *(_spread(found[key]) for key in ("miou", "biou")), *gains]
        lines.append("| " + " | ".join([*cells, f"{runs[0]['rate']:g}", f"{seconds:.0f}"]) + " |")
    return lines


def bands(results: Results) -> list[str]:
    """Boundary IoU by the width of the band, mean over the seeds."""
    lines = ["| upsampler | " + " | ".join(f"{n} px" for n in DISTANCES) + " |", "|:--|" + "--:|" * len(DISTANCES)]
    for name, runs in results.items():
        means = [statistics.fmean(run["bands"][str(n)] for run in runs) for n in DISTANCES]
        lines.append(f"| {name} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    return lines


def ends(results: Results) -> list[str]:
    """mIoU on the measured images during the training, mean over the seeds; "-" where one has no value."""
    curves = {name: [dict(run["curves"]["miou"]) for run in runs] for name, runs in results.items()}
    steps = sorted({step for found in curves.values() for curve in found for step in curve})
    lines = ["| upsampler | " + " | ".join(f"step {step}" for step in steps) + " |", "|:--|" + "--:|" * len(steps)]
    for name, found in curves.items():
        values = [[curve[step] for curve in found if step in curve] for step in steps]
        cells = [f"{statistics.fmean(each):.1f}" if len(each) == len(found) else "-" for each in values]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _spread(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def _interval(gain: tuple[float, float, float]) -> str:
    mean, low, high = gain
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def summary(results: Results) -> list[str]:
    """Quality beside cost, in times of bilinear interpolation; without the rows that leave out parts of ReSFU."""
    costs = {row["name"]: row for row in measurements.measured(cost.NAME)}
    lines = [
        "| upsampler | seeds | mIoU | bIoU | bIoU over bilinear | inference | training step |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for name, runs in results.items():
        if ROWS[name].options:
            continue
        found = row_scores(runs)
        gain = "" if name == "bilinear" else _interval(paired_difference(results["bilinear"], runs)["biou"])
        cells = [name, str(len(runs)), *(_spread(found[key]) for key in ("miou", "biou")), gain]
        lines.append(
            "| " + " | ".join([*cells, *(_times(costs, name, key) for key in ("inference", "training"))]) + " |"
        )
    return lines


def costs() -> list[str]:
    """Milliseconds, memory and parameters of the networks."""
    rows = measurements.measured(cost.NAME)
    if not rows:
        return []
    lines = [
        "| upsampler | inference (ms) | training step (ms) | peak memory (MB) | MACs (G) | trained parameters |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [row["name"], *(f"{row[key]['median_ms']:.0f}" for key in ("inference", "training"))]
        cells += [
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['multiply_accumulates'] / 1e9:.2f}",
            f"{row['parameters']:,}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, *measurements.where(cost.NAME)]


def _times(costs: dict[str, dict[str, Any]], name: str, key: str) -> str:
    if name not in costs:
        return ""
    return f"{costs[name][key]['median_ms'] / costs['bilinear'][key]['median_ms']:.1f} x"


def _of_protocol(lines: Callable[[Results], list[str]]) -> Callable[[], list[str]]:
    return lambda: lines(read(PROTOCOL))


PROTOCOL = "frozen-2400"
TABLES = {
    "evidence": _of_protocol(table),
    "evidence-bands": _of_protocol(bands),
    "evidence-curves": _of_protocol(ends),
    "evidence-cost": costs,
}
SUMMARY = {"evidence-summary": _of_protocol(summary)}
