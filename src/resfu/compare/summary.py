"""From the runs of a comparison to one row an upsampler, and the row's words for every kind of table."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resfu.compare.kinds import KINDS, Kind

_DISTANCES = ("hd95_found", "hd95")
_LOWER_IS_BETTER = (*_DISTANCES, "missed")


@dataclass(frozen=True)
class Spread:
    """A metric over seeds: mean, and sample standard deviation (None for a single seed).

    There are no values where a split had nothing to measure; then the mean is NaN.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds (n - 1 in the denominator)."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def plain(self) -> dict[str, float | int | None]:
        """Mean, deviation and number as JSON can hold them."""
        return {"mean": self.mean if self.values else None, "std": self.deviation, "n": len(self.values)}

    def __str__(self) -> str:
        if not self.values:
            return "-"
        return f"{self.mean:.2f}" if self.deviation is None else f"{self.mean:.2f} ± {self.deviation:.2f}"


@dataclass(frozen=True)
class Row:
    """What the table says of one upsampler.

    Attributes:
        upsampler: its name.
        metrics: by the keys of the `Kind`'s.
        cost: as `measure_cost` returns it.
    """

    upsampler: str
    metrics: dict[str, Spread]
    cost: Mapping[str, Any]


def kind_in(results: Mapping[str, Any]) -> Kind:
    """The kind of a comparison, from its results.json."""
    return KINDS[results["kind"]]


def spread(results: Mapping[str, Any], upsampler: str, metric: str) -> Spread:
    """A metric of an upsampler over the seeds.

    Args:
        results: the content of `results.json`.
        upsampler: one of its settings' upsamplers.
        metric: a key of a run's "metrics"; runs of before there was this one are passed over.
    """
    values = (run["metrics"].get(metric) for run in results["runs"] if run["upsampler"] == upsampler)
    return Spread(tuple(value for value in values if value is not None))


def summarise(results: Mapping[str, Any]) -> list[Row]:
    """Gather the runs of `results.json` by upsampler, in the order that was asked for.

    Args:
        results: with "kind", "settings", "runs" (each with "upsampler", "seed", "metrics") and "cost" by upsampler.

    Returns:
        One row an upsampler.
    """
    return [
        Row(name, {key: spread(results, name, key) for key in kind_in(results).metrics}, results["cost"][name])
        for name in results["settings"]["upsamplers"]
    ]


COST_COLUMNS = ["parameters (M)", "MACs (G)", "host (ms)", "upsampler (ms)", "peak (MB)"]


def headings(kind: Kind) -> list[str]:
    """The column headings of the table."""
    return ["upsampler", *kind.metrics.values(), *COST_COLUMNS]


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
    known = [row for row in rows if not math.isnan(row.metrics[key].mean)]
    if key in _DISTANCES:
        # An organ that is missed has no distance, or by convention 0: missing more is no merit.
        known = [row for row in known if _missed(row) == min(map(_missed, known)) < math.inf]
    top = choose((row.metrics[key].mean for row in known), default=math.nan)
    return {row.upsampler for row in known if row.metrics[key].mean == top} if len(rows) > 1 else set()


def _missed(row: Row) -> float:
    """How often an organ was missed, infinitely often where none was found; 0 where it was not counted."""
    missed = row.metrics["missed"]
    return 0.0 if not missed.values else missed.mean if row.metrics["hd95_found"].values else math.inf


def note(results: Mapping[str, Any]) -> str:
    """The line under the table: what the numbers mean."""
    kind, seeds = kind_in(results), len(results["settings"]["seeds"])
    over = f"mean ± sample standard deviation over {seeds} seeds" if seeds > 1 else "one seed, so no spread"
    values = kind.values.format(images=results["images"], convention=results["settings"].get("convention"))
    cost = results["cost_input"]
    left_out = (
        " Multiply-accumulates leave out the heads of single proposals, whose number depends on what is found; latency "
        "and peak memory hold them."
        if kind.objects
        else ""
    )
    return (
        f"Validation set, {values}: {over}. Multiply-accumulates, latency (median, "
        f"{results['machine']['device']}) and peak memory of one forward pass of the whole network at "
        f"{cost['height']} x {cost['width']}, batch 1; the upsampler's own latency beside it. Parameters: of the whole "
        f"network.{left_out}"
    )


def markdown(results: Mapping[str, Any]) -> str:
    """The table and its note as Markdown."""
    rows, kind = summarise(results), kind_in(results)
    titles = headings(kind)
    lines = ["| " + " | ".join(titles) + " |", "|:--|" + "--:|" * (len(titles) - 1)]
    for row in rows:
        words = cells(row)
        for column, key in enumerate(kind.metrics, 1):
            if row.upsampler in best(rows, key):
                words[column] = f"**{words[column]}**"
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join([*lines, "", note(results), ""])
