"""The table of classes: the scores of every upsampler by class, over the seeds."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from resfu.compare.narrow import print_table
from resfu.compare.summary import Spread, task_in
from resfu.training.scores import Score


def scores_by_class(results: Mapping[str, Any]) -> list[Score]:
    """The scores that a comparison's table of classes shows."""
    scores = (score for score in task_in(results).scores if score.by_class)
    found = [score for score in scores if any(score.by_class in run for run in results["runs"])]
    return found if task_in(results).lists_classes else found[:1]


def class_scores(results: Mapping[str, Any]) -> dict[str, dict[str, list[Spread]]]:
    """Mean and spread over the seeds, by class and upsampler for every one of `scores_by_class`.

    Args:
        results: the content of `results.json`.
    """
    table: dict[str, dict[str, list[Spread]]] = {}
    for index, label in enumerate(results["classes"]):
        table[label] = {}
        for name in results["settings"]["upsamplers"]:
            runs = [run for run in results["runs"] if run["upsampler"] == name]
            table[label][name] = [_spread(runs, score, index) for score in scores_by_class(results)]
    return table


def _spread(runs: list[dict[str, Any]], score: Score, index: int) -> Spread:
    # Runs from before a score existed have no list for it.
    values = (run[score.by_class][index] for run in runs if score.by_class in run)
    return Spread(tuple(value for value in values if value is not None), score.decimals)


def class_markdown(results: Mapping[str, Any]) -> str:
    """The classes as a Markdown table."""
    names, scores = results["settings"]["upsamplers"], scores_by_class(results)
    titles = [task_in(results).row]
    titles += [f"{name} {score.class_title or score.title}" for name in names for score in scores]
    lines = ["", "| " + " | ".join(titles) + " |", "|:--|" + "--:|" * (len(titles) - 1)]
    for label, by_name in class_scores(results).items():
        lines.append("| " + " | ".join([label, *(str(spread) for name in names for spread in by_name[name])]) + " |")
    return "\n".join([*lines, ""])


def print_classes(results: Mapping[str, Any], console: Console) -> None:
    """Print the classes, with a line for each upsampler."""
    row, scores = task_in(results).row, scores_by_class(results)
    table = Table(row, "upsampler", box=SIMPLE_HEAD, collapse_padding=True)
    for score in scores:
        table.add_column(score.class_title or score.title, justify="right", no_wrap=True)
    for label, by_name in class_scores(results).items():
        for place, (name, spreads) in enumerate(by_name.items()):
            table.add_row("" if place else label, name, *map(str, spreads))
    print_table(console, table, names=2)
