"""The whole comparison: trainings, costs, pictures, tables and the report."""

import itertools
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from resfu.compare.classes import class_markdown, print_classes
from resfu.compare.comparison import Comparison
from resfu.compare.folder import OutputFolder
from resfu.compare.machine import describe_machine, describe_versions
from resfu.compare.measure import measure_cost
from resfu.compare.narrow import print_table
from resfu.compare.report import render_report
from resfu.compare.summary import best, cells, headings, markdown, note, summarise, task_in
from resfu.compare.training import train_one
from resfu.files.atomic import write_json, write_text
from resfu.files.lock import locked
from resfu.tasks.base import Contents
from resfu.tasks.loading import load_module
from resfu.tasks.pictures import choose, save_sheets

_WIDE = 110  # terminal columns from which a row is shown in one line


def compare(
    comparison: Comparison,
    output: str | Path,
    overwrite: bool = False,
    pictures: int = 6,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train the same network once per upsampler and seed, measure it, and write tables, pictures and a report.

    Finished runs of an earlier call are not repeated; an interrupted one resumes from its last checkpoint.

    Args:
        comparison: the experiments.
        output: folder for everything: results.json, table.md, report.html, sheets/, runs/.
        overwrite: start again in a folder that holds a comparison.
        pictures: number of validation images to show.
        console: for progress and the table.

    Returns:
        The content of results.json.

    Raises:
        OSError: if the folder cannot be written.
        ValueError: if the folder holds a comparison with other settings, another process works in it, or a training
            diverges.
        KeyboardInterrupt: on Ctrl-C; the next call resumes.
    """
    console = console or Console()
    folder = OutputFolder(output)
    with locked(folder.path, "resfu compare", "choose another folder with --output"):
        return _compare(comparison, folder, overwrite, pictures, console)


def _compare(
    comparison: Comparison, folder: OutputFolder, overwrite: bool, pictures: int, console: Console
) -> dict[str, Any]:
    if not overwrite:
        folder.check(comparison)
    first, task = comparison.experiment(comparison.upsamplers[0], comparison.seeds[0]), comparison.task
    # Data are generated here, with their own progress bar. Missing data raise an error before the folder is claimed.
    data = first.create_data(first.create_module())
    data.setup("fit")
    folder.begin(comparison, overwrite)
    runs = _train(comparison, folder, console)
    console.print("measuring and drawing")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    modules = {
        name: load_module(folder.run(name, comparison.seeds[0]).weights).to(device) for name in comparison.upsamplers
    }
    image = data.evaluated[0]["image"].to(device)
    costs = {name: measure_cost(module.host, image[None], task.counted_part) for name, module in modules.items()}
    seen = task.input_size(next(iter(modules.values())).host, image)
    results = _results(comparison, runs, costs, task.contents(data), seen)
    write_json(folder.path / "results.json", results)
    classes = class_markdown(results) if task.lists_classes else ""
    write_text(folder.path / "table.md", markdown(results) + classes)
    shown = task.pictures(modules, data, choose(len(data.evaluated), pictures))
    save_sheets(shown, folder.sheets)
    write_text(folder.path / "report.html", render_report(results, shown, task.volumes(modules, data)))
    _print_table(results, console)
    if task.lists_classes:
        print_classes(results, console)
    console.print(f"report: {folder.path / 'report.html'}", soft_wrap=True, markup=False, highlight=False)
    return results


def _train(comparison: Comparison, folder: OutputFolder, console: Console) -> list[dict[str, Any]]:
    runs = []
    for seed, upsampler in itertools.product(comparison.seeds, comparison.upsamplers):
        place = folder.run(upsampler, seed)
        console.print(f"{upsampler}, seed {seed}: {place.state}")
        runs.append(train_one(comparison, upsampler, seed, place, console))
    return runs


def _results(
    comparison: Comparison,
    runs: list[dict[str, Any]],
    costs: dict[str, Any],
    contents: Contents,
    seen: tuple[int, int],
) -> dict[str, Any]:
    results: dict[str, Any] = {
        "task": comparison.task.name,
        "settings": comparison.to_dict(),
        "versions": describe_versions(),
        "machine": describe_machine(),
        "classes": contents.classes,
        "palette": contents.palette,
        "count": contents.count,
        "cost_input": {"height": seen[0], "width": seen[1]},
        "cost": costs,
        "runs": runs,
    }
    results["summary"] = {
        row.upsampler: {key: spread.plain for key, spread in row.metrics.items()} for row in summarise(results)
    }
    return results


def _print_table(results: dict[str, Any], console: Console) -> None:
    """Print the metrics and the costs, in parts if the terminal is too narrow."""
    task, rows = task_in(results), summarise(results)
    titles = [title.replace(" ", "\n") for title in headings(task)]
    table = Table(box=SIMPLE_HEAD, collapse_padding=True)
    # Only the upsampler's name, with its arguments, may be wrapped.
    table.add_column(titles[0], vertical="top", overflow="fold")
    for title in titles[1:]:
        table.add_column(title, justify="right", vertical="top", no_wrap=True)
    marked = [best(rows, score) for score in task.scores]
    for row in rows:
        texts = cells(row) if console.width >= _WIDE else [text.replace(" ± ", "\n± ") for text in cells(row)]
        for column, winners in enumerate(marked, 1):
            if row.upsampler in winners:
                texts[column] = f"[bold]{texts[column]}[/bold]"
        table.add_row(*texts)
    print_table(console, table)
    console.print(f"{note(results)}\n", style="italic", highlight=False, markup=False)
