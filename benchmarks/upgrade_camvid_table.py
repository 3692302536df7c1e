"""The tables of the trainings of `benchmarks.upgrade_camvid` that are there, as lines of Markdown.

python -m benchmarks.upgrade_camvid_table
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER
from benchmarks.upgrade_camvid import FURTHER, NETWORKS, VARIANTS

OWN, BEFORE, PUBLISHED = "its own", "resfu", "resfu, published"
KEYS = ("miou", "biou")
Runs = dict[tuple[str, str], dict[int, dict[str, Any]]]


def read(folder: Path = FOLDER / "upgrade-camvid") -> Runs:
    """The finished trainings by network and variant ("" is the training before the exchange), then by seed."""
    found: Runs = {}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text("utf-8"))
        found.setdefault((run["network"], run["variant"]), {})[run["seed"]] = run
    return found


def table(runs: Runs) -> list[str]:
    """mIoU / bIoU in percent before the exchange, behind it and in further training, mean over the seeds."""
    steps = FURTHER.measured
    heads = ["network", "upsampling", "seeds", "before", *(f"step {step}" for step in steps), "over its own", "s"]
    lines = [_line(heads), "|:--|:--" + "|--:" * (len(heads) - 2) + "|"]
    for network in NETWORKS:
        for variant in VARIANTS:
            found = runs.get((network, variant), {})
            before, own = runs.get((network, ""), {}), runs.get((network, OWN), {})
            seeds = sorted(found.keys() & before.keys() & own.keys())
            if not seeds:
                continue
            last = max(int(step) for step in before[seeds[0]]["scores"])
            cells = [_means([before[seed]["scores"][str(last)] for seed in seeds])]
            cells += [_means([found[seed]["scores"][str(step)] for seed in seeds]) for step in steps]
            gain = "" if variant == OWN else _gain(found, own, seeds, steps[-1])
            seconds = statistics.median(found[seed]["training_seconds"] for seed in seeds)
            lines.append(_line([network, variant, str(len(seeds)), *cells, gain, f"{seconds:.0f}"]))
    return lines


def starts(runs: Runs) -> list[str]:
    """What "as-before" has over "published", the difference of mIoU / bIoU by step."""
    heads = ["network", "seeds", *(f"step {step}" for step in FURTHER.measured)]
    lines = [_line(heads), "|:--" + "|--:" * (len(heads) - 1) + "|"]
    for network in NETWORKS:
        found, other = runs.get((network, BEFORE), {}), runs.get((network, PUBLISHED), {})
        if seeds := sorted(found.keys() & other.keys()):
            gains = [_gain(found, other, seeds, step) for step in FURTHER.measured]
            lines.append(_line([network, str(len(seeds)), *gains]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _means(scores: Sequence[dict[str, float]]) -> str:
    return " / ".join(f"{statistics.fmean(one[key] for one in scores):.1f}" for key in KEYS)


def _gain(runs: dict[int, Any], others: dict[int, Any], seeds: Sequence[int], step: int) -> str:
    """Mean and deviation of the differences seed by seed."""
    parts = []
    for key in KEYS:
        values = [runs[n]["scores"][str(step)][key] - others[n]["scores"][str(step)][key] for n in seeds]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        parts.append(f"{statistics.fmean(values):+.1f}{spread}")
    return " / ".join(parts)


if __name__ == "__main__":
    for part in (table, starts):
        print("\n".join(part(read())) + "\n")
