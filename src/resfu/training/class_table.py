"""A data set's metrics, class by class: as a table and as plain values."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def class_table(metrics: Mapping[str, Any], classes: Sequence[str]) -> Table:
    """Lay out what `SemanticMetrics.compute` returns.

    Args:
        metrics: "iou", "acc", "boundary_iou" [num_classes] and their means "miou", "macc", "biou", in percent.
        classes: names, in order.

    Returns:
        A table for `rich.print`: a row per class, the means at the foot. A class without a value shows a dash.
    """
    table = Table("class", show_footer=True)
    table.columns[0].footer = "mean"
    for title, mean in (("IoU", "miou"), ("Acc", "macc"), ("boundary IoU", "biou")):
        table.add_column(title, justify="right", footer=_percent(metrics[mean]))
    columns = (metrics[key].tolist() for key in ("iou", "acc", "boundary_iou"))
    for name, *values in zip(classes, *columns, strict=True):
        table.add_row(name, *map(_percent, values))
    table.caption = f"pixels right: {_percent(metrics['aacc'])} %"
    return table


def plain_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What `SemanticMetrics.compute` returns, as JSON can hold it.

    Returns:
        "miou", "macc", "aacc" and "biou", in percent; "iou", "acc" and "boundary_iou" as lists over the classes, None
        for a class without a value.
    """
    means = {key: metrics[key] for key in ("miou", "macc", "aacc", "biou")}
    return means | {
        key: [None if value != value else value for value in metrics[key].tolist()]
        for key in ("iou", "acc", "boundary_iou")
    }


def _percent(value: float) -> str:
    return f"{value:.2f}" if value == value else "-"
