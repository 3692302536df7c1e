"""Tables on narrow terminals: parts below each other, each with the names of the rows."""

import copy
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

_NAMES = 10  # smallest width of the column of names, in characters


def print_table(console: Console, table: Table, names: int = 1) -> None:
    """Print a table, split between columns if the terminal is too narrow.

    Numbers are never shortened; names are wrapped if necessary.

    Args:
        console: to print to.
        table: columns of names, then columns of numbers or other short text.
        names: number of columns of names; every part repeats them.
    """
    if _width(console, table, table.columns) <= console.width:
        console.print(table)
        return
    heads = [copy.copy(column) for column in table.columns[:names]]
    # Only the first column may be wrapped, and only as far as the others need.
    heads[0].overflow, heads[0].no_wrap = "fold", False
    longest = console.measure("\n".join(map(str, heads[0].cells)), options=console.options.update(width=10_000)).maximum
    heads[0].min_width = min(_NAMES, longest)
    wrapped = Column("x" * heads[0].min_width, justify=heads[0].justify)
    for column in table.columns[names:]:
        column.no_wrap = True
    parts: list[list[Column]] = [[]]
    for column in table.columns[names:]:
        if parts[-1] and _width(console, table, [wrapped, *heads[1:], *parts[-1], column]) > console.width:
            parts.append([])
        parts[-1].append(column)
    for place, part in enumerate(parts):
        shown = _with_columns(table, [*heads, *part])
        shown.title = table.title if place == 0 else None
        shown.caption = table.caption if place == len(parts) - 1 else None
        console.print(shown)


def _with_columns(table: Table, columns: Sequence[Column]) -> Table:
    part = copy.copy(table)
    part.columns = [copy.copy(column) for column in columns]
    for place, column in enumerate(part.columns):
        column._index = place
    return part


def _width(console: Console, table: Table, columns: Sequence[Column]) -> int:
    """The width of a table with these columns, without wrapping."""
    part = _with_columns(table, columns)
    part.title = part.caption = part.min_width = None
    return console.measure(part, options=console.options.update(width=10_000)).maximum
