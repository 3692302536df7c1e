"""Published and measured numbers side by side, for JSON and for a terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from resfu.compare.reproduce.rows import recipe_name
from resfu.compare.summary import Spread, spread
from resfu.compare.variants import variant_name
from resfu.evaluation.published import PublishedRow
from resfu.tasks import task_of
from resfu.training.scores import Score


@dataclass(frozen=True)
class Measured:
    """The results of one network's trainings.

    Args:
        metrics: by the keys of its row's `scores_of`, without those that have no value.
        parameters: of the network.
    """

    metrics: Mapping[str, Spread]
    parameters: int


def scores_of(row: PublishedRow) -> list[Score]:
    """The published scores of a row."""
    return [score for score in task_of(row.host, row.dataset).module.scores if score.key in row.metrics]


def additions_to(row: PublishedRow) -> list[Score]:
    """Scores measured in addition to the published ones, such as the number of missed organs."""
    published = scores_of(row)
    named = {name for score in published for name in (score.counted_first, score.requires) if name}
    return [score for score in task_of(row.host, row.dataset).scores if score.key in named and score not in published]


def compared(results: Mapping[str, Any], upsampler: str, row: PublishedRow) -> Measured:
    """The results of a comparison.

    Args:
        results: the content of its results.json.
        upsampler: one of its upsamplers.
        row: of the same task.
    """
    scores = [*scores_of(row), *additions_to(row)]
    spreads = {score.key: spread(results, upsampler, score) for score in scores}
    known = {key: value for key, value in spreads.items() if value.values}
    return Measured(known, results["cost"][upsampler]["parameters"])


def records(rows: Iterable[PublishedRow], measured: Callable[[PublishedRow], Measured | None]) -> list[dict[str, Any]]:
    """Rows in a form for JSON.

    Args:
        rows: of one table.
        measured: returns the measurements of a row, or None.

    Returns:
        Per row: "table", "label", "host", "upsampler", "upsampler_options", "recipe", "titles" of the metrics,
        "additions" (titles of the additional scores), "published" (as printed), "misprints", "measured" ("mean", "std"
        and "n" of each metric, and "parameters"; or None), and "gain" over the first row of the host: "published" by
        metric, and "measured", whose difference is taken seed by seed.
    """
    first: dict[str, tuple[PublishedRow, Measured | None]] = {}
    result = []
    for row in rows:
        found = measured(row)
        base, base_found = first.setdefault(row.host, (row, found))
        titles = {score.key: score.title for score in scores_of(row)}
        gain = {key: row.metrics[key] - base.metrics[key] for key in titles}
        ours: dict[str, Any] | None = None
        our_gain: dict[str, Any] | None = None
        if found is not None:
            ours = {key: value.plain for key, value in found.metrics.items()} | {"parameters": found.parameters}
            if base_found is not None:
                shared = [key for key in titles if key in found.metrics and key in base_found.metrics]
                our_gain = {key: _gain(found.metrics[key], base_found.metrics[key]).plain for key in shared}
        row_fields = {key: value for key, value in asdict(row).items() if key not in ("metrics", "dataset")}
        result.append(
            {
                **row_fields,
                "recipe": recipe_name(row),
                "titles": titles,
                "additions": {score.key: score.title for score in additions_to(row)},
                "published": dict(row.metrics),
                "measured": ours,
                "gain": {"published": gain, "measured": our_gain},
            }
        )
    return result


def table(found: Sequence[Mapping[str, Any]], title: str) -> Table:
    """The table of one host's `records` for `rich.print`: two lines per row, with the gain in parentheses."""
    shown = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("row", overflow="fold")
    shown.add_column("")
    metrics, additions = found[0]["titles"], found[0]["additions"]
    for name in [*metrics.values(), *additions.values(), "parameters (M)"]:
        shown.add_column(name, justify="right")
    none = dict.fromkeys(metrics)
    for place, record in enumerate(found):
        published, ours = record["published"], record["measured"]
        gain = record["gain"] if place else {"published": none, "measured": none}
        cells = [f"{published[key]:.2f}{_gained(gain['published'][key])}" for key in metrics]
        count = published.get("params_m")
        mark = " (misprint)" if "params_m" in record["misprints"] else ""
        cells += ["-"] * len(additions)
        shown.add_row(_name(record), "published", *cells, "-" if count is None else f"{count:.2f}{mark}")
        if ours is not None:
            gains = gain["measured"] or none
            cells = [f"{_spread(ours[key], '.2f')}{_gained(gains.get(key))}" if key in ours else "-" for key in metrics]
            cells += [_spread(ours[key], ".2f") if key in ours else "-" for key in additions]
            shown.add_row("", "measured", *cells, f"{ours['parameters'] / 1e6:.2f}")
    return shown


def _gain(ours: Spread, base: Spread) -> Spread:
    # The same seed gives the same batches. While trainings are running, the last seeds of one may be missing.
    return Spread(tuple(a - b for a, b in zip(ours.values, base.values, strict=False)))


def _name(record: Mapping[str, Any]) -> str:
    """The row's label; in the ablations with its variant."""
    if record["label"] == record["upsampler"]:
        return record["label"]
    return f"{record['label']}: {variant_name(record['upsampler'], record['upsampler_options'])}"


def _gained(gain: float | Mapping[str, float] | None) -> str:
    if gain is None:
        return ""
    return f" ({_spread(gain, '+.2f') if isinstance(gain, Mapping) else f'{gain:+.2f}'})"


def _spread(value: Mapping[str, Any], form: str) -> str:
    return f"{value['mean']:{form}}" + ("" if value["std"] is None else f" ± {value['std']:.2f}")
