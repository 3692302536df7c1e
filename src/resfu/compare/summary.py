"""From the runs of a comparison to one row an upsampler, and the row's words for every kind of table."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

METRICS = {"miou": "mIoU", "macc": "mAcc", "biou": "bIoU"}
VOLUME_METRICS = {"dice": "Dice", "hd95": "HD95"}
_LOWER_IS_BETTER = ("hd95",)


@dataclass(frozen=True)
class Spread:
    """A metric over seeds: mean, and sample standard deviation (None for a single seed)."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds (n - 1 in the denominator)."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.deviation is None else f"{self.mean:.2f} ± {self.deviation:.2f}"


@dataclass(frozen=True)
class Row:
    """What the table says of one upsampler.

    Attributes:
        upsampler: its name.
        metrics: by the keys of `METRICS` in percent, or of `VOLUME_METRICS` in percent and voxels.
        cost: as `measure_cost` returns it.
    """

    upsampler: str
    metrics: dict[str, Spread]
    cost: Mapping[str, Any]


def metrics_of(results: Mapping[str, Any]) -> dict[str, str]:
    """The metrics of a comparison: keys of a run's "metrics", and what the tables call them."""
    return METRICS if results["settings"].get("convention") is None else VOLUME_METRICS


def summarise(results: Mapping[str, Any]) -> list[Row]:
    """Gather the runs of `results.json` by upsampler, in the order that was asked for.

    Args:
        results: with "settings", "runs" (each with "upsampler", "seed", "metrics") and "cost" by upsampler.

    Returns:
        One row an upsampler.
    """
    rows = []
    for name in results["settings"]["upsamplers"]:
        runs = [run for run in results["runs"] if run["upsampler"] == name]
        metrics = {key: Spread(tuple(run["metrics"][key] for run in runs)) for key in metrics_of(results)}
        rows.append(Row(name, metrics, results["cost"][name]))
    return rows


COST_COLUMNS = ["parameters (M)", "MACs (G)", "host (ms)", "upsampler (ms)", "peak (MB)"]


def headings(metrics: Mapping[str, str] = METRICS) -> list[str]:
    """The column headings of the table."""
    return ["upsampler", *metrics.values(), *COST_COLUMNS]


def cells(row: Row) -> list[str]:
    """One row of the table as words, under `headings`."""
    cost = row.cost
    return [
        row.upsampler,
        *map(str, row.metrics.values()),
        f"{cost['parameters'] / 1e6:.3f}",
        f"{cost['multiply_accumulates'] / 1e9:.2f}",
        f"{cost['host_ms']:.1f}",
        f"{cost['upsampler_ms']:.1f}",
        f"{cost['peak_bytes'] / 1e6:.1f}",
    ]


def best(rows: Sequence[Row], key: str) -> set[str]:
    """The upsamplers whose mean of a metric is the best: the highest, of distances the lowest."""
    choose = min if key in _LOWER_IS_BETTER else max
    top = choose((row.metrics[key].mean for row in rows if not math.isnan(row.metrics[key].mean)), default=math.nan)
    return {row.upsampler for row in rows if row.metrics[key].mean == top} if len(rows) > 1 else set()


def note(results: Mapping[str, Any]) -> str:
    """The line under the table: what the numbers mean."""
    seeds = len(results["settings"]["seeds"])
    spread = f"mean ± sample standard deviation over {seeds} seeds" if seeds > 1 else "one seed, so no spread"
    cost = results["cost_input"]
    return (
        f"Validation set, {_measured(results)}: {spread}. Multiply-accumulates, latency (median, "
        f"{results['machine']['device']}) and peak memory of one forward pass of the whole network at "
        f"{cost['height']} x {cost['width']}, batch 1; the upsampler's own latency beside it. Parameters: of the whole "
        "network."
    )


def _measured(results: Mapping[str, Any]) -> str:
    convention = results["settings"].get("convention")
    if convention is None:
        return "in percent"
    return (
        f"{results['images']} volumes, means over organs; Dice in percent, HD95 in voxels, both after the convention "
        f"{convention!r}"
    )


def markdown(results: Mapping[str, Any]) -> str:
    """The table and its note as Markdown."""
    rows, metrics = summarise(results), metrics_of(results)
    titles = headings(metrics)
    lines = ["| " + " | ".join(titles) + " |", "|:--|" + "--:|" * (len(titles) - 1)]
    for row in rows:
        words = cells(row)
        for column, key in enumerate(metrics, 1):
            if row.upsampler in best(rows, key):
                words[column] = f"**{words[column]}**"
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join([*lines, "", note(results), ""])
