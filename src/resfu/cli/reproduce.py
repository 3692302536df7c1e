"""`resfu reproduce`: train the rows of the published tables and show published and measured numbers side by side."""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console

from resfu.cli import compare
from resfu.cli.arguments import Parser, seeds
from resfu.compare.folder import write_json
from resfu.compare.machine import describe_machine, describe_versions
from resfu.compare.reproduce.rows import OBJECT_TABLES, TABLES, VOLUME_TABLES, recipe_name, select_rows
from resfu.compare.reproduce.side_by_side import Measured, records, table
from resfu.compare.reproduce.trainings import Training, claim, measured, plan, train
from resfu.compare.summary import Spread, summarise
from resfu.compare.variants import variant_name
from resfu.evaluation.published import PublishedRow

# What makes a small training on scenes of a recipe of COCO.
_SMALL_OBJECTS = "base/scenes-objects.yaml"


def run(argv: Sequence[str]) -> int:
    """Run the command on the words after `resfu reproduce`; returns the exit code."""
    options, rest = _parser().parse_known_args(argv)
    rows = select_rows(options.tables, options.rows)
    try:
        (_small if options.scale == "small" else _by_recipes)(rows, options, rest)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def command(words: list[str]) -> int:
    """Carry out `resfu WORDS` and return its exit code.

    In a process of its own: all of its memory is free afterwards, and Lightning may start it once more for every GPU.
    """
    process = subprocess.Popen([sys.executable, "-m", "resfu", *words])
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal interrupted it too
        raise


def _by_recipes(rows: list[PublishedRow], options: argparse.Namespace, rest: list[str]) -> None:
    output, over = Path(options.output), _SMALL_OBJECTS if options.scale == "small" else None
    trainings = plan(rows, Path(options.recipes), output, options.seeds, over)
    if options.dry_run:
        for training in trainings:
            print(f"# {training.name}, seed {training.seed}: {training.state}")
            for words in training.commands(options.root, rest):
                print(shlex.join(["resfu", *words]))
        return
    console = Console()

    def found(row: PublishedRow) -> Measured | None:
        return measured(recipe_name(row), trainings)

    claim(output, [*([over] if over else []), *rest])
    try:
        train(trainings, options.root, rest, command, console)
    finally:
        settings = {"scale": options.scale, "seeds": list(options.seeds), "options": rest}
        caption = "Published: arXiv 2407.02283. In parentheses: over the first row."
        if over:
            caption += " Measured with a smaller network on generated scenes: compare what stands in parentheses."
        _report(rows, found, output, settings, caption, console)
    _draw_objects(rows, trainings, output, console)


def _small(rows: list[PublishedRow], options: argparse.Namespace, rest: list[str]) -> None:
    objects = {row.table in OBJECT_TABLES for row in rows}
    if len(objects) > 1:
        raise ValueError("table12 does not go with other tables at a small scale: call them one by one.")
    if objects == {True}:
        _by_recipes(rows, options, rest)
        return
    names = {_variant(row): None for row in rows}
    volumetric = {row.table in VOLUME_TABLES for row in rows}
    if len(volumetric) > 1:
        raise ValueError("tables in mIoU and tables in Dice do not go together at a small scale: call them one by one.")
    data = ["--data", "ct"] if volumetric == {True} else []
    words = ["--upsamplers", ",".join(names), "--seeds", ",".join(map(str, options.seeds)) + ",", *data, *rest]
    words += ["--output", options.output, *(["--root", options.root] if options.root else [])]
    chosen = compare.parse(words)
    settings = compare.settings_of(chosen)
    if settings.volumetric != (volumetric == {True}):
        quality = "Dice" if volumetric == {True} else "mIoU"
        raise ValueError(f"these tables are in {quality}, which {settings.data} does not have: give other --data.")
    if options.dry_run:
        print(shlex.join(["resfu", "compare", *words]))
        return
    results = compare.train(settings, chosen)
    by_name = {
        row.upsampler: Measured(_published_names(row.metrics), row.cost["parameters"]) for row in summarise(results)
    }
    caption = (
        f"Measured with another network and other data: {settings.host} on {settings.data}, {settings.steps} steps. "
        "Compare what stands in parentheses, the difference to the first row."
    )
    about = {"scale": "small", **settings.to_dict()}
    _report(rows, lambda row: by_name[_variant(row)], Path(options.output), about, caption, Console())


def _draw_objects(rows: list[PublishedRow], trainings: list[Training], output: Path, console: Console) -> None:
    """Of each host that finds objects a sheet, by the first seed of every row."""
    for host in dict.fromkeys(row.host for row in rows if row.table in OBJECT_TABLES):
        from resfu.compare.reproduce.object_sheets import save_object_sheet

        names = {recipe_name(row): row.label for row in rows if row.host == host}
        found = {names[each.name]: each.last for each in reversed(trainings) if each.name in names}
        sheet = output / "sheets" / f"{host}.png"
        save_object_sheet(dict(reversed(found.items())), sheet)
        console.print(f"pictures: {sheet}", soft_wrap=True, markup=False, highlight=False)


def _report(
    rows: list[PublishedRow],
    found: Callable[[PublishedRow], Measured | None],
    output: Path,
    settings: dict[str, Any],
    caption: str,
    console: Console,
) -> None:
    about = {"settings": settings, "versions": describe_versions(), "machine": describe_machine()}
    for number, group in groupby(rows, key=lambda row: row.table):
        lines = records(group, found)
        write_json(output / f"table{number}.json", {"table": number, **about, "rows": lines})
        for host in dict.fromkeys(line["host"] for line in lines):
            console.print(table([line for line in lines if line["host"] == host], f"Table {number}, {host}"))
    console.print(caption, highlight=False)


def _published_names(metrics: Mapping[str, Spread]) -> dict[str, Spread]:
    """The metrics of a comparison by the published tables' names."""
    return {"mean_dice" if key == "dice" else key: spread for key, spread in metrics.items()}


def _variant(row: PublishedRow) -> str:
    return variant_name(row.upsampler, row.upsampler_options)


def _table(text: str) -> int:
    known = {f"table{number}": number for number in TABLES}
    if text not in known:
        raise argparse.ArgumentTypeError(f"choose from {', '.join(known)}, got {text!r}")
    return known[text]


def _patterns(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu reproduce",
        description="Train the rows of published tables, by `resfu fit` and `resfu test`, and print published and "
        "measured numbers side by side; table*.json holds them. Interrupted, the same command goes on where it was. "
        "Further options go to `resfu fit`, or with --scale small to `resfu compare` (not those of table12).",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("tables", nargs="+", type=_table, metavar="TABLE", help=f"of {', '.join(f'table{n}' for n in TABLES)}")
    add("--output", required=True, metavar="DIR", help="folder for the runs and everything that comes out")
    add(
        "--scale",
        choices=["published", "small"],
        default="published",
        help="small: the same upsamplers in a small network on any data, by `resfu compare`, whose options it takes",
    )
    add("--rows", type=_patterns, default=[], metavar="A,B", help="only these: labels (resfu, c, K=*) or recipes")
    add("--seeds", type=seeds, default=(0,), metavar="N | A,B", help="a number of seeds, or a list with commas (1)")
    add(
        "--data.root",
        dest="root",
        metavar="DIR",
        help="folder of the data (the recipes'; ADE20K's, Synapse's, ACDC's or COCO's)",
    )
    add("--recipes", default="recipes", metavar="DIR", help="folder of the recipes (recipes)")
    add("--dry-run", action="store_true", help="print the commands that would run")
    return parser
