"""Published and measured numbers side by side, for JSON and for a terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from resfu.compare.reproduce.rows import recipe_name
from resfu.compare.summary import METRICS, Spread
from resfu.compare.variants import variant_name
from resfu.evaluation.published import PublishedRow


@dataclass(frozen=True)
class Measured:
    """What the trainings of one network gave.

    Args:
        metrics: by the keys of `METRICS`, in percent.
        parameters: of the network.
    """

    metrics: Mapping[str, Spread]
    parameters: int


def records(rows: Iterable[PublishedRow], measured: Callable[[PublishedRow], Measured | None]) -> list[dict[str, Any]]:
    """Rows as JSON can hold them.

    Args:
        rows: of one table.
        measured: gives the measurements of a row, None where there are none.

    Returns:
        Per row: "table", "label", "host", "upsampler", "upsampler_options", "recipe", "published" (as printed),
        "misprints", "measured" (per metric "mean", "std", "n"; "parameters"; None without), and "gain": "published" and
        "measured" by metric, over the first row of the host.
    """
    first: dict[str, tuple[PublishedRow, Measured | None]] = {}
    result = []
    for row in rows:
        found = measured(row)
        base, base_found = first.setdefault(row.host, (row, found))
        gain = {key: row.metrics[key] - base.metrics[key] for key in METRICS}
        ours: dict[str, Any] | None = None
        our_gain: dict[str, float] | None = None
        if found is not None:
            ours = {
                key: {"mean": spread.mean, "std": spread.deviation, "n": len(spread.values)}
                for key, spread in found.metrics.items()
            } | {"parameters": found.parameters}
            if base_found is not None:
                our_gain = {key: found.metrics[key].mean - base_found.metrics[key].mean for key in METRICS}
        row_fields = {key: value for key, value in asdict(row).items() if key not in ("metrics", "dataset")}
        result.append(
            {
                **row_fields,
                "recipe": recipe_name(row),
                "published": dict(row.metrics),
                "measured": ours,
                "gain": {"published": gain, "measured": our_gain},
            }
        )
    return result


def table(found: Sequence[Mapping[str, Any]], title: str) -> Table:
    """The records of one host for `rich.print`: two lines a row, in parentheses the gain.

    Args:
        found: of `records`.
        title: above the table.
    """
    shown = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("row", overflow="fold")
    shown.add_column("")
    for name in [*METRICS.values(), "parameters (M)"]:
        shown.add_column(name, justify="right")
    none = dict.fromkeys(METRICS)
    for place, record in enumerate(found):
        published, ours = record["published"], record["measured"]
        gain = record["gain"] if place else {"published": none, "measured": none}
        words = [_words(published[key], None, gain["published"][key]) for key in METRICS]
        count = published.get("params_m")
        mark = " (misprint)" if "params_m" in record["misprints"] else ""
        shown.add_row(_name(record), "published", *words, "-" if count is None else f"{count:.2f}{mark}")
        if ours is not None:
            gains = gain["measured"] or none
            words = [_words(ours[key]["mean"], ours[key]["std"], gains[key]) for key in METRICS]
            shown.add_row("", "measured", *words, f"{ours['parameters'] / 1e6:.2f}")
    return shown


def _name(record: Mapping[str, Any]) -> str:
    """The row's label; in the ablations with what it stands for."""
    if record["label"] == record["upsampler"]:
        return record["label"]
    return f"{record['label']}: {variant_name(record['upsampler'], record['upsampler_options'])}"


def _words(value: float, deviation: float | None, gain: float | None) -> str:
    spread = "" if deviation is None else f" ± {deviation:.2f}"
    return f"{value:.2f}{spread}" + ("" if gain is None else f" ({gain:+.2f})")
