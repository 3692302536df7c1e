"""Select rows of the published tables to reproduce, and find their recipes."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

from resfu.compare.variants import variant_name
from resfu.evaluation.published import PublishedRow, published_rows

ADE20K_TABLES = (1, 2, 3, 4, 5, 6, 7, 8)
VOLUME_TABLES = (10, 11)  # Synapse and ACDC
OBJECT_TABLES = (12,)  # COCO, instances and panoptic
TABLES = ADE20K_TABLES + VOLUME_TABLES + OBJECT_TABLES


def select_rows(tables: Collection[int], wanted: Sequence[str] = ()) -> list[PublishedRow]:
    """Select rows of tables, in the tables' order.

    Args:
        tables: of `TABLES`.
        wanted: patterns of a row's label ("c", "resfu", "K=*") or of `row_name` ("segmenter-vit-s_*"); empty for all.

    Raises:
        ValueError: for an unknown table, or a pattern without a match.
    """
    others = [number for number in tables if number not in TABLES]
    if others:
        raise ValueError(f"table {others[0]} has no recipes; choose from {', '.join(f'table{n}' for n in TABLES)}.")
    rows = published_rows(tables)
    for pattern in wanted:
        if not any(_fits(row, pattern) for row in rows):
            labels = ", ".join(dict.fromkeys(row.label for row in rows))
            raise ValueError(
                f"no row matches {pattern!r}; the labels are {labels}, or give a training's name, such as "
                f"{row_name(rows[0])}."
            )
    return [row for row in rows if not wanted or any(_fits(row, pattern) for pattern in wanted)]


def recipe_name(row: PublishedRow) -> str:
    """The recipe of a row's network and data set."""
    return f"{row.host}_{row.dataset}"


def row_settings(row: PublishedRow) -> dict[str, Any]:
    """The settings that a row adds to its recipe: the upsampler and its options."""
    return {"model": {"upsampler": row.upsampler, "upsampler_options": dict(row.upsampler_options) or None}}


def row_name(row: PublishedRow) -> str:
    """The name of a row's training: network, upsampler with its options, and data.

    Ablations that equal the full method (K=3 in Table 8) share the name of the row in the main tables.
    """
    return f"{row.host}_{variant_name(row.upsampler, row.upsampler_options)}_{row.dataset}"


def _fits(row: PublishedRow, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (row.label, row_name(row)))
