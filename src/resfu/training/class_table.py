"""A data set's metrics, class by class: as a table, as plain values, and the few to log."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

_MEANS = ("miou", "macc", "aacc", "biou")
_BY_CLASS = ("iou", "acc", "boundary_iou")
_VOLUME_MEANS = ("mdice", "mhd95")
_BY_ORGAN = ("dice", "hd95", "missed", "spurious")


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a whole split.

    Args:
        metrics: of `SemanticMetrics.compute` or `VolumeMetrics.compute`.

    Returns:
        "miou", "macc", "aacc" and "biou" in percent, or of volumes "dice" in percent and "hd95".
    """
    if _of_volumes(metrics):
        return {key.removeprefix("m"): metrics[key] for key in _VOLUME_MEANS}
    return {key: metrics[key] for key in _MEANS}


def class_table(metrics: Mapping[str, Any], classes: Sequence[str]) -> Table:
    """Lay out what `SemanticMetrics.compute` or `VolumeMetrics.compute` returns.

    Args:
        metrics: "iou", "acc", "boundary_iou" [num_classes] and their means "miou", "macc", "biou", in percent; or
            "dice" (percent), "hd95", "missed", "spurious" [num_classes - 1], the means "mdice", "mhd95", and "cases".
        classes: names, in order; the first of volumes is the background.

    Returns:
        A table for `rich.print`: a row per class, the means at the foot. A class without a value shows a dash.
    """
    if _of_volumes(metrics):
        return _organ_table(metrics, classes[1:])
    table = Table("class", show_footer=True)
    table.columns[0].footer = "mean"
    for title, mean in (("IoU", "miou"), ("Acc", "macc"), ("boundary IoU", "biou")):
        table.add_column(title, justify="right", footer=_number(metrics[mean]))
    columns = (metrics[key].tolist() for key in _BY_CLASS)
    for name, *values in zip(classes, *columns, strict=True):
        table.add_row(name, *map(_number, values))
    table.caption = f"pixels right: {_number(metrics['aacc'])} %"
    return table


def plain_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What `SemanticMetrics.compute` or `VolumeMetrics.compute` returns, as JSON can hold it.

    Returns:
        "miou", "macc", "aacc" and "biou", in percent; "iou", "acc" and "boundary_iou" as lists over the classes, None
        for a class without a value. Of volumes "mdice", "mhd95"; lists over the organs; "cases" with such lists.
    """
    if _of_volumes(metrics):
        cases = {
            name: {key: _listed(values[key]) for key in ("dice", "hd95")} for name, values in metrics["cases"].items()
        }
        means = {key: _known(metrics[key]) for key in _VOLUME_MEANS}
        return means | {key: _listed(metrics[key]) for key in _BY_ORGAN} | {"cases": cases}
    return {key: metrics[key] for key in _MEANS} | {key: _listed(metrics[key]) for key in _BY_CLASS}


def _organ_table(metrics: Mapping[str, Any], organs: Sequence[str]) -> Table:
    table = Table("organ", show_footer=True)
    table.columns[0].footer = "mean"
    for title, mean in (("Dice", "mdice"), ("HD95", "mhd95")):
        table.add_column(title, justify="right", footer=_number(metrics[mean]))
    for title in ("missed", "spurious"):
        table.add_column(title, justify="right")
    columns = (metrics[key].tolist() for key in _BY_ORGAN)
    for name, dice, distance, missed, spurious in zip(organs, *columns, strict=True):
        table.add_row(name, _number(dice), _number(distance), str(missed), str(spurious))
    table.caption = (
        f"volumes: {len(metrics['cases'])}; missed, spurious: those where it is only labelled, only predicted"
    )
    return table


def _of_volumes(metrics: Mapping[str, Any]) -> bool:
    return "mdice" in metrics


def _listed(values: Any) -> list[Any]:
    return [_known(value) for value in values.tolist()]


def _known(value: float) -> float | None:
    return value if value == value else None


def _number(value: float) -> str:
    return f"{value:.2f}" if value == value else "-"
