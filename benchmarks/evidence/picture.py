"""Quality against cost of the rows of docs/evidence.md, as one picture: `python -m benchmarks.evidence.picture`.

Draws what the JSON files say and measures nothing. The points stand in the file's description as well, by which a test
sees whether the picture is that of today's numbers.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.evidence import cost
from benchmarks.evidence.intervals import row_scores
from benchmarks.evidence.protocol import ROWS
from benchmarks.evidence.table import FROZEN, read
from benchmarks.results import measured

OUTPUT = Path(__file__).parents[2] / "docs" / "images" / "evidence.png"
AXES = {"inference": "inference", "training": "training step"}
# Where a name stands beside its point, in points of a font; the others to the right.
_NAMES = {
    "bilinear-skip": (-7, -11, "right"),
    "dysample": (0, 7, "center"),
    "fade": (7, -9, "left"),
    "resfu": (-8, -4, "right"),
    "stack-jbu": (-7, 5, "right"),
}


def points() -> dict[str, dict[str, Any]]:
    """For each upsampler its boundary IoU over the seeds, and its times in those of bilinear interpolation."""
    costs = {row["name"]: row for row in measured(cost.NAME)}
    found = {}
    for name, runs in read(FROZEN).items():
        if ROWS[name].changes or name not in costs:
            continue
        scores = row_scores(runs)["biou"]
        found[name] = {"seeds": len(runs), "biou": round(statistics.fmean(scores), 2)}
        found[name]["deviation"] = round(statistics.stdev(scores), 2) if len(scores) > 1 else None
        for key in AXES:
            found[name][key] = round(costs[name][key]["median_ms"] / costs["bilinear"][key]["median_ms"], 2)
    return found


def draw(output: Path) -> None:
    """One panel for inference and one for training, with boundary IoU upwards."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = points()
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for panel, (key, words) in zip((left, right), AXES.items(), strict=True):
        for name, point in shown.items():
            colour = "#c0392b" if name == "resfu" else "#34495e"
            face = colour if point["seeds"] > 1 else "white"
            panel.errorbar(
                point[key], point["biou"], point["deviation"], fmt="o", color=colour, markerfacecolor=face, capsize=2
            )
            across, up, side = _NAMES.get(name, (7, -3, "left"))
            panel.annotate(
                name, (point[key], point["biou"]), (across, up), textcoords="offset points", ha=side, color=colour,
                fontsize=9,
            )  # fmt: skip
        panel.set_xlabel(f"{words}, times bilinear interpolation")
        panel.margins(x=0.12)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("boundary IoU on CamVid (%)")
    figure.savefig(output, dpi=110, metadata={"Description": json.dumps(shown), "Software": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    draw(options.output)
    print(options.output)
