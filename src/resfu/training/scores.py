"""The scores of a task: name, title, unit and direction of each number, for logs, files and tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from torch import Tensor


@dataclass(frozen=True)
class Score:
    """A number over a whole split, and its values class by class.

    Attributes:
        key: key of the number in the metrics' results, in logs and in JSON; "" if there are only values class by class.
        title: title in tables.
        by_class: key of the values class by class; "" if there are none.
        class_title: title of these values in tables. Default: `title`.
        unit: "%" or another unit; "" for a number without a unit.
        decimals: number of decimals shown.
        lower_is_better: whether lower numbers are better.
        compared: whether comparisons of networks show it.
        counted_first: key of a count that is compared before this score, the lower the better. A distance, for example,
            says nothing about objects that were missed.
        requires: key of a score without which this one never counts as the best, if the count of `counted_first` is
            known.

    Raises:
        ValueError: for `requires` without `counted_first`.
    """

    key: str
    title: str
    by_class: str = ""
    class_title: str = ""
    unit: str = "%"
    decimals: int = 2
    lower_is_better: bool = False
    compared: bool = True
    counted_first: str = ""
    requires: str = ""

    def __post_init__(self) -> None:
        if self.requires and not self.counted_first:
            raise ValueError(f"the score {self.key!r} requires {self.requires!r}: give counted_first, its count, too.")


def headline(scores: Iterable[Score], results: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a whole split, as far as they were measured."""
    return {score.key: results[score.key] for score in scores if score.key in results}


def class_table(
    scores: Iterable[Score], results: Mapping[str, Any], names: Sequence[str], row: str = "class", caption: str = ""
) -> Table:
    """Make a table of results class by class, or score by score if there are no classes.

    Args:
        scores: the scores.
        results: the results, as the metrics compute them.
        names: names of the classes, in order; there may be more than were measured, or none.
        row: title of the column of classes.
        caption: text below the table.

    Returns:
        A table for `rich.print` with a row per class and the means in the footer. Missing values are shown as a dash.
    """
    if not names:
        table = Table("score", "", caption=caption or None)
        for score in scores:
            if score.key in results:
                table.add_row(score.title, number(results[score.key], score.decimals))
        return table
    table = Table(row, show_footer=True, caption=caption or None)
    table.columns[0].footer = "mean"
    columns: list[list[str]] = []
    for score in scores:
        if score.by_class in results:
            title = score.class_title or score.title
            mean = number(results.get(score.key), score.decimals) if score.key else ""
            table.add_column(title, justify="right", footer=mean)
            columns.append([number(value, score.decimals) for value in results[score.by_class].tolist()])
    for name, *values in zip(names, *columns, strict=False):
        table.add_row(name, *values)
    return table


def plain(results: Any) -> Any:
    """Convert results to values for JSON: tensors to lists, NaN to None."""
    if isinstance(results, Mapping):
        return {key: plain(value) for key, value in results.items()}
    if isinstance(results, Tensor):
        return plain(results.tolist())
    if isinstance(results, list):
        return [plain(value) for value in results]
    return None if results != results else results


def number(value: float | None, decimals: int = 2) -> str:
    """Format a number with the given decimals; integers without decimals; a dash for None and NaN."""
    if value is None or value != value:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{decimals}f}"
