"""What a task measures: one name, title, unit and direction for each number, wherever it is logged, stored or shown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from torch import Tensor


@dataclass(frozen=True)
class Score:
    """A number over a whole split, and the same class by class.

    Attributes:
        key: of the number in the metrics' results, in logs and in JSON; "" where there are only values class by class.
        title: in tables.
        by_class: key of the values class by class; "" where there are none.
        class_title: of these in tables; default: the title.
        unit: "%", or what the numbers are measured in; "" for a number without a unit.
        decimals: how many are shown.
        lower_is_better: of two networks the one with the lower number is better.
        compared: shown where networks are compared.
        counted_first: key of a count that decides before this score does, the lower the better: a distance says
            nothing of what was missed.
        requires: key of a score without which this one is never the best, where the count of `counted_first` is known.

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
    """The numbers of a whole split, without those that were not measured."""
    return {score.key: results[score.key] for score in scores if score.key in results}


def class_table(
    scores: Iterable[Score], results: Mapping[str, Any], names: Sequence[str], row: str = "class", caption: str = ""
) -> Table:
    """Lay out results class by class, or score by score where there are no classes.

    Args:
        scores: what was measured.
        results: as the metrics compute them.
        names: of the classes, in order; there may be more than were measured, or none.
        row: what a class is called.
        caption: below the table.

    Returns:
        A table for `rich.print`: a row per class, the means at the foot. A class without a value shows a dash.
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
    """Results as JSON can hold them: tensors as lists, None for a number that there is not."""
    if isinstance(results, Mapping):
        return {key: plain(value) for key, value in results.items()}
    if isinstance(results, Tensor):
        return plain(results.tolist())
    if isinstance(results, list):
        return [plain(value) for value in results]
    return None if results != results else results


def number(value: float | None, decimals: int = 2) -> str:
    """So many decimals; a whole number as it is; a dash for none."""
    if value is None or value != value:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{decimals}f}"
