"""The metrics of objects, class by class: as a table, as plain values, and the few to log."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from torch import Tensor

from resfu.data.coco import Category
from resfu.evaluation.instances import METRICS

_PANOPTIC = ("pq", "pq_things", "pq_stuff", "sq", "rq")
_INSTANCES = (*METRICS, *(f"boundary_{name}" for name in METRICS))
# Title, the values of the classes, their mean.
_COLUMNS = (
    ("mask AP", "ap_by_class", "mask_ap"),
    ("boundary AP", "boundary_ap_by_class", "boundary_mask_ap"),
    ("PQ", "pq_by_class", "pq"),
    ("SQ", "sq_by_class", "sq"),
    ("RQ", "rq_by_class", "rq"),
)


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a whole split, in percent: mask AP and its kin, or PQ, its things and stuff, SQ and RQ."""
    return {key: metrics[key] for key in (*_INSTANCES, *_PANOPTIC) if key in metrics}


def object_table(metrics: Mapping[str, Any], categories: Sequence[Category]) -> Table:
    """Lay out what `InstanceMetrics.compute` or `PanopticMetrics.compute` returns.

    Args:
        metrics: with the values of the classes.
        categories: of the data set, things first.

    Returns:
        A table for `rich.print`: a row per class, the means at the foot. A class without a value shows a dash.
    """
    table = Table("class", show_footer=True)
    table.columns[0].footer = "mean"
    columns: list[list[float]] = []
    for title, by_class, mean in _COLUMNS:
        if by_class in metrics:
            table.add_column(title, justify="right", footer=_number(metrics[mean]))
            columns.append(metrics[by_class].tolist())
    # Instances are measured for things alone, which come first.
    for category, *values in zip(categories, *columns, strict=False):
        table.add_row(category.name, *map(_number, values))
    return table


def plain_object_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The same as JSON can hold it: lists over the classes, None where there is nothing to measure."""
    return {
        key: [_known(each) for each in value.tolist()] if isinstance(value, Tensor) else _known(value)
        for key, value in metrics.items()
    }


def _known(value: float) -> float | None:
    return value if value == value else None


def _number(value: float) -> str:
    return f"{value:.2f}" if value == value else "-"
