"""`resfu reproduce`: train the rows of the published tables and show published and measured numbers side by side."""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console

from resfu.cli import compare
from resfu.cli.arguments import Parser, seeds
from resfu.compare.folder import write_json
from resfu.compare.kinds import KINDS, VOLUMES, Kind, kind_of
from resfu.compare.machine import describe_machine, describe_versions
from resfu.compare.narrow import print_table
from resfu.compare.reproduce.rows import TABLES, recipe_name, select_rows
from resfu.compare.reproduce.side_by_side import Measured, compared, records, table
from resfu.compare.reproduce.trainings import Training, claim, measured, plan, train
from resfu.compare.settings import Settings
from resfu.compare.variants import variant_name
from resfu.evaluation.published import PublishedRow

# What stands for a network that finds objects at a small scale.
_SMALL_HOSTS = {
    "mask-rcnn-resnet50": "mask-rcnn-efficientnet-lite0",
    "panoptic-fpn-resnet50": "panoptic-fpn-efficientnet-lite0",
}


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
    output = Path(options.output)
    trainings = plan(rows, Path(options.recipes), output, options.seeds)
    if options.dry_run:
        for training in trainings:
            print(f"# {training.name}, seed {training.seed}: {training.state}")
            for words in training.commands(options.root, rest):
                print(shlex.join(["resfu", *words]))
        return
    console = Console()

    def found(row: PublishedRow) -> Measured | None:
        return measured(recipe_name(row), trainings)

    claim(output, rest)
    try:
        train(trainings, options.root, rest, command, console)
    finally:
        settings = {"scale": options.scale, "seeds": list(options.seeds), "options": rest}
        caption = "Published: arXiv 2407.02283. In parentheses: over the first row."
        _report(rows, found, output, settings, caption, console)
    _draw_objects(rows, trainings, output, console)


@dataclass(frozen=True)
class _Comparison:
    """The comparison that stands for rows of one kind."""

    words: list[str]
    options: argparse.Namespace
    settings: Settings


def _small(rows: list[PublishedRow], options: argparse.Namespace, rest: list[str]) -> None:
    groups: dict[str, list[PublishedRow]] = {}
    for row in rows:
        groups.setdefault(_kind(row).name, []).append(row)
    if len(groups) > 1 and not all(KINDS[name].objects for name in groups):
        qualities = " and tables in ".join(_quality(KINDS[name]) for name in groups)
        raise ValueError(f"tables in {qualities} do not go together at a small scale: call them one by one.")
    comparisons = {name: _comparison(group, options, rest) for name, group in groups.items()}
    if options.dry_run:
        for comparison in comparisons.values():
            print(shlex.join(["resfu", "compare", *comparison.words]))
        return
    results = {name: compare.train(each.settings, each.options) for name, each in comparisons.items()}
    settings = [each.settings for each in comparisons.values()]
    caption = (
        f"Measured with another network and other data: {' and '.join(each.host for each in settings)} on "
        f"{settings[0].data}, {settings[0].steps} steps. Compare what stands in parentheses, the difference to the "
        "first row."
    )
    about = {"scale": "small", "comparisons": [each.to_dict() for each in settings]}

    def found(row: PublishedRow) -> Measured:
        return compared(results[_kind(row).name], _variant(row), row.metrics)

    _report(rows, found, Path(options.output), about, caption, Console())


def _comparison(rows: list[PublishedRow], options: argparse.Namespace, rest: list[str]) -> _Comparison:
    """What to compare for rows of one kind; objects in a folder for each network."""
    names, kind = dict.fromkeys(map(_variant, rows)), _kind(rows[0])
    words = ["--upsamplers", ",".join(names), "--seeds", ",".join(map(str, options.seeds)) + ","]
    words += ["--data", "ct"] if kind is VOLUMES else []
    words += ["--host", _SMALL_HOSTS[rows[0].host]] if kind.objects else []
    words += [*rest, *(["--root", options.root] if options.root else []), "--output", options.output]
    settings = compare.settings_of(compare.parse(words))
    if settings.kind is not kind:
        raise ValueError(
            f"these tables are in {_quality(kind)}, which {settings.host} on {settings.data} is not measured in "
            f"({_quality(settings.kind)}): give another --host or --data, or other --rows."
        )
    if kind.objects:
        words[-1] = str(Path(options.output) / settings.host)
    return _Comparison(words, compare.parse(words), settings)


def _draw_objects(rows: list[PublishedRow], trainings: list[Training], output: Path, console: Console) -> None:
    """Of each host that finds objects a sheet, by the first seed of every row."""
    for host in dict.fromkeys(row.host for row in rows if _kind(row).objects):
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
            shown = table([line for line in lines if line["host"] == host], f"Table {number}, {host}")
            print_table(console, shown, names=2)
    console.print(caption, highlight=False)


def _kind(row: PublishedRow) -> Kind:
    return kind_of(row.host, row.dataset)


def _quality(kind: Kind) -> str:
    return next(iter(kind.metrics.values()))


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
        "Further options go to `resfu fit`, or with --scale small to `resfu compare`.",
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
