"""Summarise the runs of a comparison to one row per upsampler, with the text of its cells."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resfu.tasks import TASKS, Task
from resfu.training.scores import Score


@dataclass(frozen=True)
class Spread:
    """A metric over seeds: mean and sample standard deviation.

    Without values the mean is NaN; with fewer than two the deviation is None.

    Attributes:
        values: one for each seed.
        decimals: number of decimals in the text.
    """

    values: tuple[float, ...]
    decimals: int = 2

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
        """Mean, deviation and number in a form for JSON."""
        return {"mean": self.mean if self.values else None, "std": self.deviation, "n": len(self.values)}

    def __str__(self) -> str:
        if not self.values:
            return "-"
        mean = f"{self.mean:.{self.decimals}f}"
        return mean if self.deviation is None else f"{mean} ± {self.deviation:.{self.decimals}f}"


@dataclass(frozen=True)
class Row:
    """One upsampler's row in the table.

    Attributes:
        upsampler: its name.
        metrics: by the keys of the task's scores.
        cost: from `measure_cost`.
    """

    upsampler: str
    metrics: dict[str, Spread]
    cost: Mapping[str, Any]


def task_in(results: Mapping[str, Any]) -> Task:
    """The task of a comparison, from its results.json."""
    return TASKS[results["task"]]


def spread(results: Mapping[str, Any], upsampler: str, score: Score) -> Spread:
    """A score of an upsampler over the seeds.

    Args:
        results: the content of `results.json`.
        upsampler: one of its settings' upsamplers.
        score: its key is one of a run's "metrics"; runs from before it existed are left out.
    """
    values = (run["metrics"].get(score.key) for run in results["runs"] if run["upsampler"] == upsampler)
    return Spread(tuple(value for value in values if value is not None), score.decimals)


def summarise(results: Mapping[str, Any]) -> list[Row]:
    """Gather the runs of `results.json` to one row per upsampler, in the requested order.

    Args:
        results: with "task", "settings", "runs" (each with "upsampler", "seed", "metrics") and "cost" by upsampler.
    """
    return [
        Row(
            name,
            {score.key: spread(results, name, score) for score in task_in(results).scores},
            results["cost"][name],
        )
        for name in results["settings"]["upsamplers"]
    ]


COST_COLUMNS = ["parameters (M)", "MACs (G)", "host (ms)", "upsampler (ms)", "peak (MB)"]


def headings(task: Task) -> list[str]:
    """The column headings of the table."""
    return ["upsampler", *(score.title for score in task.scores), *COST_COLUMNS]


def cells(row: Row) -> list[str]:
    """The text of a row's cells, under `headings`."""
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


def best(rows: Sequence[Row], score: Score) -> set[str]:
    """The upsamplers with the best mean of a score."""
    choose, key = min if score.lower_is_better else max, score.key
    known = [row for row in rows if row.metrics[key].values]
    if score.counted_first:
        counts = [row.metrics[score.counted_first].mean for row in known]
        known = [row for row, count in zip(known, counts, strict=True) if not count > min(counts)]
    if score.requires:  # runs from before there was a count are not filtered
        counted = [bool(row.metrics[score.counted_first].values) for row in known]
        known = [row for row, c in zip(known, counted, strict=True) if row.metrics[score.requires].values or not c]
    top = choose((row.metrics[key].mean for row in known), default=math.nan)
    return {row.upsampler for row in known if row.metrics[key].mean == top} if len(rows) > 1 else set()


def note(results: Mapping[str, Any]) -> str:
    """The explanation of the numbers, under the table."""
    task, seeds = task_in(results), len(results["settings"]["seeds"])
    over = f"mean ± sample standard deviation over {seeds} seeds" if seeds > 1 else "one seed, so no spread"
    values = task.note.format(count=results["count"], **results["settings"]["model"])
    cost = results["cost_input"]
    return (
        f"Validation set, {values}: {over}. Multiply-accumulates, latency (median, "
        f"{results['machine']['device']}) and peak memory of one forward pass of the whole network at "
        f"{cost['height']} x {cost['width']}, batch 1; the upsampler's own latency beside it. Parameters: of the whole "
        f"network.{task.cost_note}"
    )


def markdown(results: Mapping[str, Any]) -> str:
    """The table and its note as Markdown."""
    rows, task = summarise(results), task_in(results)
    titles = headings(task)
    lines = ["| " + " | ".join(titles) + " |", "|:--|" + "--:|" * (len(titles) - 1)]
    for row in rows:
        texts = cells(row)
        for column, score in enumerate(task.scores, 1):
            if row.upsampler in best(rows, score):
                texts[column] = f"**{texts[column]}**"
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join([*lines, "", note(results), ""])
