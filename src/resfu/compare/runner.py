"""The whole comparison: every training, the costs, the pictures, the tables and the report."""

import itertools
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from resfu.compare.folder import OutputFolder, write_json, write_text
from resfu.compare.machine import describe_machine, describe_versions
from resfu.compare.measure import measure_cost
from resfu.compare.pictures import choose, make_pictures, save_sheets
from resfu.compare.report import render_report
from resfu.compare.run import VALIDATIONS, create_data, run
from resfu.compare.settings import Settings
from resfu.compare.summary import best, cells, headings, markdown, metrics_of, note, summarise
from resfu.compare.volumes import count_images, labelled_slices, make_volume_pictures, organ_markdown, print_organs
from resfu.compare.weights import load_host
from resfu.data import SegmentationDataset
from resfu.hosts.base import SegmentationHost

_WIDE = 110  # columns of a terminal that shows a row in one line


def compare(
    settings: Settings,
    output: str | Path,
    overwrite: bool = False,
    workers: int = 0,
    pictures: int = 6,
    console: Console | None = None,
    validations: int = VALIDATIONS,
) -> dict[str, Any]:
    """Train the same network once per upsampler and seed, measure it, and write tables, pictures and a report.

    Runs that an earlier call finished are not repeated, and one that was interrupted goes on from its last checkpoint.

    Args:
        settings: the experiment.
        output: folder for everything: results.json, table.md, report.html, sheets/, runs/.
        overwrite: begin again in a folder that holds a comparison.
        workers: processes that load images.
        pictures: number of validation images to show.
        console: for progress and the table.
        validations: how often each training measures the validation split, the last time after its end.

    Returns:
        The content of results.json.

    Raises:
        OSError: when the folder cannot be written to.
        ValueError: when the folder holds a comparison with other settings, or a training diverges.
        KeyboardInterrupt: on Ctrl-C; the next call goes on.
    """
    console = console or Console()
    folder = OutputFolder(output)
    if not overwrite:
        folder.check(settings)
    # Scenes are generated here, with a bar of their own. Data that cannot be had end it before the folder is claimed.
    create_data(settings, settings.seeds[0], (0.5,) * 3, (0.5,) * 3, workers).setup("fit")
    folder.begin(settings, overwrite)
    runs = _train(settings, folder, workers, console, validations)
    console.print("measuring and drawing")
    hosts = {name: load_host(folder.run(name, settings.seeds[0]).weights) for name in settings.upsamplers}
    dataset = _validation_data(settings, next(iter(hosts.values())))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    image = dataset[0]["image"][None].to(device)
    costs = {name: measure_cost(host.to(device), image) for name, host in hosts.items()}
    results = _results(settings, runs, costs, dataset)
    write_json(folder.path / "results.json", results)
    volumes = make_volume_pictures(settings, hosts, dataset)
    write_text(folder.path / "table.md", markdown(results) + organ_markdown(results))
    drawn = labelled_slices(settings, dataset)
    shown = make_pictures(hosts, drawn, choose(len(drawn), pictures))
    save_sheets(shown, folder.sheets)
    write_text(folder.path / "report.html", render_report(results, shown, volumes))
    _print_table(results, console)
    print_organs(results, console)
    console.print(f"report: {folder.path / 'report.html'}", soft_wrap=True, markup=False, highlight=False)
    return results


def _train(
    settings: Settings, folder: OutputFolder, workers: int, console: Console, validations: int
) -> list[dict[str, Any]]:
    runs = []
    for seed, upsampler in itertools.product(settings.seeds, settings.upsamplers):
        place = folder.run(upsampler, seed)
        console.print(f"{upsampler}, seed {seed}: {place.state or f'{settings.steps} steps'}")
        runs.append(run(settings, upsampler, seed, place, workers, console, validations))
    return runs


def _results(
    settings: Settings, runs: list[dict[str, Any]], costs: dict[str, Any], dataset: SegmentationDataset
) -> dict[str, Any]:
    height, width = dataset[0]["image"].shape[-2:]
    results: dict[str, Any] = {
        "settings": settings.to_dict(),
        "versions": describe_versions(),
        "machine": describe_machine(),
        "classes": list(dataset.classes),
        "palette": dataset.palette.tolist(),
        "images": count_images(dataset),
        "cost_input": {"height": height, "width": width},
        "cost": costs,
        "runs": runs,
    }
    results["summary"] = {
        row.upsampler: {
            key: {"mean": spread.mean, "std": spread.deviation, "n": len(spread.values)}
            for key, spread in row.metrics.items()
        }
        for row in summarise(results)
    }
    return results


def _validation_data(settings: Settings, host: SegmentationHost) -> SegmentationDataset:
    data = create_data(settings, 0, host.mean, host.std, workers=0)
    data.setup("validate")
    return data.evaluated


def _print_table(results: dict[str, Any], console: Console) -> None:
    rows = summarise(results)
    metrics = metrics_of(results)
    table = Table(box=SIMPLE_HEAD, caption=note(results), caption_justify="left", collapse_padding=True)
    for heading in headings(metrics):
        justify = "right" if table.columns else "left"
        # Only the upsampler's name, with its arguments, may be broken.
        whole = bool(table.columns)
        table.add_column(heading.replace(" (", "\n("), justify=justify, vertical="top", no_wrap=whole, overflow="fold")
    for row in rows:
        words = [word if console.width >= _WIDE else word.replace(" ± ", "\n± ") for word in cells(row)]
        for column, key in enumerate(metrics, 1):
            if row.upsampler in best(rows, key):
                words[column] = f"[bold]{words[column]}[/bold]"
        table.add_row(*words)
    console.print(table)
