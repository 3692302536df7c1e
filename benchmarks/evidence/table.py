"""The tables of docs/evidence.md and README from the trainings that are there."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import results as measurements
from benchmarks.evidence import cost, volumes
from benchmarks.evidence.counts import class_scores
from benchmarks.evidence.intervals import paired_difference, row_scores
from benchmarks.evidence.protocol import DISTANCES, RATE, RATES, ROWS
from benchmarks.results import FOLDER
from resfu.data import CamVid
from resfu.evaluation.published import published_rows

Results = dict[str, list[dict[str, Any]]]
FROZEN, TRAINED, CHOOSING = "frozen-2400", "trained-2400", "frozen-800"


def read(protocol: str, folder: Path = FOLDER / "evidence", part: str = "final", rate: float | None = None) -> Results:
    """The finished trainings of a protocol, by row in the order of `ROWS`.

    Args:
        protocol: encoder and steps, such as "frozen-2400".
        folder: of the JSON files.
        part: "final", of one rate for each row; or "choosing", the trainings that choose the rate.
        rate: of the final trainings. Default: for each row the best one, as soon as it has as many seeds as `RATE`, and
            `RATE` until then.
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted((folder / protocol / part).glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        found[result["row"]].append(result)
    if part == "final":
        best = best_rates(folder)
        for name, runs in found.items():
            seeds = Counter(run["rate"] for run in runs)
            taken = best[name] if name in best and seeds[best[name]] >= seeds[RATE] else RATE
            found[name] = [run for run in runs if run["rate"] == (taken if rate is None else rate)]
    return {name: found[name] for name in ROWS if found.get(name)}


def tried_rates(folder: Path = FOLDER / "evidence") -> dict[str, dict[float, float]]:
    """mIoU on the held-out frames by rate, for the rows that have been tried with all rates."""
    results = read(CHOOSING, folder, "choosing")
    tried = {name: {run["rate"]: run["metrics"]["miou"] for run in runs} for name, runs in results.items()}
    return {name: found for name, found in tried.items() if set(found) == set(RATES)}


def best_rates(folder: Path = FOLDER / "evidence") -> dict[str, float]:
    """The rate with the highest mIoU on the held-out frames, by row."""
    return {name: max(found, key=found.__getitem__) for name, found in tried_rates(folder).items()}


def table(results: Results) -> list[str]:
    """Quality of each row, its gain over bilinear and what ReSFU gains over it at the same seeds, as Markdown."""
    lines = [
        "| upsampler | rate | seeds | mIoU | bIoU | mIoU over bilinear | bIoU over bilinear | ReSFU's mIoU over it "
        "| ReSFU's bIoU over it |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, runs in results.items():
        found, rate = row_scores(runs), runs[0]["rate"]
        cells = [name, f"{rate:g}", str(len(runs)), *(_spread(found[key]) for key in ("miou", "biou"))]
        cells += gains(results, "bilinear", name) + gains(results, name, "resfu")
        lines.append("| " + " | ".join(cells) + " |")
    trainings = [run for runs in results.values() for run in runs]
    hours = sum(run["training_seconds"] for run in trainings) / 3600
    return [*lines, "", f"{len(trainings)} trainings, {hours:.0f} hours of one thread."]


def gains(results: Results, first: str, second: str) -> list[str]:
    """mIoU and bIoU of the second row over the first with their intervals; empty where a row or a common seed lacks."""
    seeds = [{run["seed"] for run in results.get(name, [])} for name in (first, second)]
    if first == second or not seeds[0] & seeds[1]:
        return ["", ""]
    return [_interval(gain) for gain in paired_difference(results[first], results[second]).values()]


def classes(results: Results) -> list[str]:
    """IoU of each class in percent, mean over the seeds."""
    lines = ["| upsampler | " + " | ".join(CamVid.classes) + " |", "|:--|" + "--:|" * len(CamVid.classes)]
    for name, runs in results.items():
        each = torch.tensor([class_scores(run["counts"]) for run in runs]).mean(0).tolist()
        lines.append(f"| {name} | " + " | ".join(f"{value:.1f}" for value in each) + " |")
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


def rates(folder: Path = FOLDER / "evidence") -> list[str]:
    """mIoU on the held-out frames with each rate, the best in bold; of rows that have been tried with all of them."""
    lines = ["| upsampler | " + " | ".join(f"{rate:g}" for rate in RATES) + " |", "|:--|" + "--:|" * len(RATES)]
    for name, tried in tried_rates(folder).items():
        best = max(tried.values())
        cells = [f"**{tried[rate]:.1f}**" if tried[rate] == best else f"{tried[rate]:.1f}" for rate in RATES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines if len(lines) > 2 else []


def parts(results: Results) -> list[str]:
    """What each change of ReSFU costs here, and what it cost in the published tables; of trainings with one rate."""
    lines = [
        "| row | ReSFU | seeds | mIoU | bIoU | mIoU in the last quarter | published: Segmenter-S "
        "| published: SegFormer-B1 |",
        "|:--|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for name, runs in results.items():
        if ROWS[name].changes:
            cells = [name, ROWS[name].changes, str(len(runs)), *gains(results, "resfu", name), _last_quarter(runs)]
            cells += [_published(ROWS[name].options, host) for host in ("segmenter-vit-s", "segformer-mit-b1")]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _last_quarter(runs: Sequence[dict[str, Any]]) -> str:
    """How much mIoU a row still gains in the last quarter of its steps, mean over the seeds."""
    curves = [[value for _, value in run["curves"]["miou"]] for run in runs]
    return f"{statistics.fmean(curve[-1] - curve[-2] for curve in curves):+.1f}"


def _published(options: Mapping[str, Any], host: str) -> str:
    """mIoU and bIoU of these options less those of the whole, in Tables V to VII; empty where they are not there."""
    rows = published_rows((5, 6, 7), host, "resfu")
    whole = next(row for row in rows if row.label == "f").metrics
    for row in rows:
        if options and row.upsampler_options == options:
            return " / ".join(f"{row.metrics[key] - whole[key]:+.2f}" for key in ("miou", "biou"))
    return ""


def _spread(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def _interval(gain: tuple[float, float, float]) -> str:
    mean, low, high = gain
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def summary(results: Results) -> list[str]:
    """Quality beside cost, in times of bilinear interpolation."""
    costs = {row["name"]: row for row in measurements.measured(cost.NAME)}
    lines = [
        "| upsampler | rate | seeds | mIoU | bIoU | bIoU over bilinear | inference | training step |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, runs in results.items():
        found, rate = row_scores(runs), runs[0]["rate"]
        cells = [name, f"{rate:g}", str(len(runs)), *(_spread(found[key]) for key in ("miou", "biou"))]
        cells.append(gains(results, "bilinear", name)[1])
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


def _with_one_rate(lines: Callable[[Results], list[str]]) -> Callable[[], list[str]]:
    """A table of ReSFU and the rows that change it, all trained with `RATE`."""

    def filled() -> list[str]:
        results = read(FROZEN, rate=RATE)
        shown = {name: runs for name, runs in results.items() if name == "resfu" or ROWS[name].changes}
        return lines(shown) if len(shown) > 1 else []

    return filled


def _of(
    lines: Callable[[Results], list[str]], protocol: str = FROZEN, rate: float | None = None
) -> Callable[[], list[str]]:
    """A table of the upsamplers in a protocol, without the rows that change ReSFU. `rate` as in `read`."""

    def filled() -> list[str]:
        results = {name: runs for name, runs in read(protocol, rate=rate).items() if not ROWS[name].changes}
        return lines(results) if results else []

    return filled


TABLES = {
    "evidence-rates": rates,
    "evidence": _of(table),
    "evidence-bands": _of(bands),
    "evidence-classes": _of(classes),
    "evidence-curves": _of(ends),
    "evidence-cost": costs,
    "evidence-trained": _of(table, TRAINED, RATE),
    "evidence-trained-curves": _of(ends, TRAINED, RATE),
    "evidence-parts": _with_one_rate(parts),
    "evidence-volumes": volumes.table,
}
SUMMARY = {"evidence-summary": _of(summary)}
