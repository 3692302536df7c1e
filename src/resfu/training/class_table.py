"""A data set's metrics, class by class: as a table, as plain values, and the few to log."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

_MEANS = ("miou", "macc", "aacc", "biou")
_BY_CLASS = ("iou", "acc", "boundary_iou")
_SCORES = ("dice", "hd95_found", "hd95")  # of an organ
_COUNTS = ("found", "missed", "spurious")


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a whole split.

    Args:
        metrics: of `SemanticMetrics.compute` or `VolumeMetrics.compute`.

    Returns:
        "miou", "macc", "aacc" and "biou" in percent, or of volumes "dice" in percent, "hd95_found" of the organs found,
        "hd95" of the convention, and "missed", how often a labelled organ was not predicted, over all cases.
    """
    if _of_volumes(metrics):
        return {key: metrics[f"m{key}"] for key in _SCORES} | {"missed": float(metrics["missed"].sum())}
    return {key: metrics[key] for key in _MEANS}


def class_table(metrics: Mapping[str, Any], classes: Sequence[str]) -> Table:
    """Lay out what `SemanticMetrics.compute` or `VolumeMetrics.compute` returns.

    Args:
        metrics: what it returned.
        classes: names, in order; the first of volumes is the background.

    Returns:
        A table for `rich.print`: a row per class, the means at the foot. A class without a value shows a dash; so does
        the HD95 of an organ that no case has in both volumes, while the convention's has a column of its own.
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
        "miou", "macc", "aacc" and "biou", in percent; "iou", "acc" and "boundary_iou" as lists over the classes. Of
        volumes the means "mdice", "mhd95_found" and "mhd95"; "convention"; lists over the organs; "cases" with such
        lists. None where there is no value.
    """
    if _of_volumes(metrics):
        cases = {name: {key: _listed(values[key]) for key in _SCORES} for name, values in metrics["cases"].items()}
        means = {f"m{key}": _known(metrics[f"m{key}"]) for key in _SCORES}
        by_organ = {key: _listed(metrics[key]) for key in (*_SCORES, *_COUNTS)}
        return means | {"convention": metrics["convention"]} | by_organ | {"cases": cases}
    return {key: _known(metrics[key]) for key in _MEANS} | {key: _listed(metrics[key]) for key in _BY_CLASS}


def _organ_table(metrics: Mapping[str, Any], organs: Sequence[str]) -> Table:
    table = Table("organ", show_footer=True)
    table.columns[0].footer = "mean"
    found = f"\n{int((metrics['found'] > 0).sum())} of {len(organs)}"
    for title, mean, counted in (
        ("Dice", "mdice", ""),
        ("HD95", "mhd95_found", found),
        (f"HD95\n({metrics['convention']})", "mhd95", ""),
    ):
        table.add_column(title, justify="right", footer=_number(metrics[mean]) + counted)
    for title in ("missed", "spurious"):
        table.add_column(title, justify="right", footer=str(int(metrics[title].sum())))
    columns = (metrics[key].tolist() for key in (*_SCORES, "missed", "spurious"))
    for name, *scores, missed, spurious in zip(organs, *columns, strict=True):
        table.add_row(name, *map(_number, scores), str(missed), str(spurious))
    table.caption = (
        f"volumes: {len(metrics['cases'])}; missed, spurious: those where it is only labelled, only predicted; HD95: "
        "the mean of those where it is both"
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
