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
from resfu.compare.measure import input_size, measure_cost
from resfu.compare.narrow import print_table
from resfu.compare.objects import make_object_pictures, measured_categories
from resfu.compare.pictures import ImagePictures, choose, make_pictures, save_sheets
from resfu.compare.report import render_report
from resfu.compare.run import VALIDATIONS, create_data, run
from resfu.compare.settings import Settings
from resfu.compare.summary import best, cells, headings, kind_in, markdown, note, summarise
from resfu.compare.volumes import labelled_slices, make_volume_pictures, organ_markdown, print_organs
from resfu.compare.weights import Network, load_host
from resfu.data import SegmentationDataset
from resfu.data.coco import ObjectDataset
from resfu.data.medical.base import SliceDataset
from resfu.training.volumes import Cases

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
    image = dataset[0]["image"].to(device)
    costs = {name: measure_cost(host.to(device), image[None]) for name, host in hosts.items()}
    seen = input_size(next(iter(hosts.values())), image)
    results = _results(settings, runs, costs, dataset, seen)
    write_json(folder.path / "results.json", results)
    volumes = make_volume_pictures(settings, hosts, dataset)
    write_text(folder.path / "table.md", markdown(results) + organ_markdown(results))
    shown = _pictures(settings, hosts, dataset, pictures)
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
    settings: Settings,
    runs: list[dict[str, Any]],
    costs: dict[str, Any],
    dataset: SegmentationDataset | ObjectDataset,
    seen: tuple[int, int],
) -> dict[str, Any]:
    results: dict[str, Any] = {
        "kind": settings.kind.name,
        "settings": settings.to_dict(),
        "versions": describe_versions(),
        "machine": describe_machine(),
        **_described(dataset),
        "cost_input": {"height": seen[0], "width": seen[1]},
        "cost": costs,
        "runs": runs,
    }
    results["summary"] = {
        row.upsampler: {key: spread.plain for key, spread in row.metrics.items()} for row in summarise(results)
    }
    return results


def _described(dataset: SegmentationDataset | ObjectDataset) -> dict[str, Any]:
    """Names and colours of the classes, and how many images or volumes there are.

    Things have no colour: pictures show each object in one of its own.
    """
    if isinstance(dataset, ObjectDataset):
        categories = measured_categories(dataset)
        colours = [None if category.isthing else list(category.color) for category in categories]
        return {"classes": [category.name for category in categories], "palette": colours, "images": len(dataset)}
    count = len(Cases(dataset, 1)) if isinstance(dataset, SliceDataset) else len(dataset)
    return {"classes": list(dataset.classes), "palette": dataset.palette.tolist(), "images": count}


def _validation_data(settings: Settings, host: Network) -> SegmentationDataset | ObjectDataset:
    data = create_data(settings, 0, host.mean, host.std, workers=0)
    data.setup("validate")
    return data.evaluated


def _pictures(
    settings: Settings, hosts: dict[str, Network], dataset: SegmentationDataset | ObjectDataset, wanted: int
) -> list[ImagePictures]:
    places = choose(len(dataset), wanted)
    if isinstance(dataset, ObjectDataset):
        return make_object_pictures(hosts, dataset, places)
    return make_pictures(hosts, labelled_slices(settings, dataset), places)


def _print_table(results: dict[str, Any], console: Console) -> None:
    """Print the metrics and the costs, one below the other where the terminal is too narrow for both."""
    kind, rows = kind_in(results), summarise(results)
    titles = [word.replace(" ", "\n") for word in headings(kind)]
    table = Table(box=SIMPLE_HEAD, collapse_padding=True)
    # Only the upsampler's name, with its arguments, may be broken.
    table.add_column(titles[0], vertical="top", overflow="fold")
    for title in titles[1:]:
        table.add_column(title, justify="right", vertical="top", no_wrap=True)
    marked = [best(rows, key) for key in kind.metrics]
    for row in rows:
        words = cells(row) if console.width >= _WIDE else [word.replace(" ± ", "\n± ") for word in cells(row)]
        for column, winners in enumerate(marked, 1):
            if row.upsampler in winners:
                words[column] = f"[bold]{words[column]}[/bold]"
        table.add_row(*words)
    print_table(console, table)
    console.print(f"{note(results)}\n", style="italic", highlight=False, markup=False)
