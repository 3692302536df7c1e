"""`resfu reproduce`: train the rows of the published tables and show published and measured numbers side by side."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from resfu.cli.arguments import Parser, seeds
from resfu.cli.checkpoints import user_errors
from resfu.cli.training_options import SETTINGS_HELP, add_training_options, chosen_settings, parse, read_recipes
from resfu.compare.comparison import Comparison
from resfu.compare.machine import describe_machine, describe_versions
from resfu.compare.narrow import print_table
from resfu.compare.reproduce.rows import TABLES, recipe_name, select_rows
from resfu.compare.reproduce.sheets import save_predictions
from resfu.compare.reproduce.side_by_side import Measured, compared, records, table
from resfu.compare.reproduce.trainings import claim, measured, plan
from resfu.compare.run import compare
from resfu.compare.variants import variant_name
from resfu.evaluation.published import PublishedRow
from resfu.files.atomic import write_json
from resfu.files.lock import locked
from resfu.recipes import flattened
from resfu.tasks import TASKS, Task, task_of


def run(argv: Sequence[str]) -> int:
    """Run the command on the arguments after `resfu reproduce`; returns the exit code."""
    options, settings = parse(_parser(), argv)
    rows = select_rows(options.tables, options.rows)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        with user_errors():
            (_small if options.scale == "small" else _published)(rows, options, settings)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _published(rows: list[PublishedRow], options: argparse.Namespace, settings: dict[str, Any]) -> None:
    if options.lr is not None:
        raise ValueError(
            "--lr is for --scale small: published networks differ in how much faster than the encoder their heads "
            "learn. Give --model.optimisation.learning_rate, the encoder's, or leave it out."
        )
    output = Path(options.output)
    trainings = plan(rows, output, options.seeds)
    settings = chosen_settings(options, {}, settings)
    if options.dry_run:
        for each in trainings:
            model = each.experiment(settings).settings["model"]
            own = variant_name(model["upsampler"], model["upsampler_options"] or {})
            print(f"{each.name}, seed {each.seed}: {each.folder.state}")
            print(f"  recipe {recipe_name(each.row)}, upsampler {own}, in {each.folder.path}")
        return
    console = Console()

    def found(row: PublishedRow) -> Measured | None:
        return measured(row, trainings)

    with locked(output, "resfu reproduce", "choose another folder by --output"):
        claim(output, settings)
        try:
            for each in trainings:
                each.carry_out(settings, console)
        finally:
            about = {"scale": options.scale, "seeds": list(options.seeds), "settings": settings}
            caption = "Published: arXiv 2407.02283. In parentheses: over the first row."
            _report(rows, found, output, about, caption, console)
        for host in dict.fromkeys(row.host for row in rows):
            last = {each.row.label: each.folder.last for each in reversed(trainings) if each.row.host == host}
            sheet = output / "sheets" / f"{host}.png"
            save_predictions(dict(reversed(last.items())), sheet)
            console.print(f"pictures: {sheet}", soft_wrap=True, markup=False, highlight=False)


def _small(rows: list[PublishedRow], options: argparse.Namespace, settings: dict[str, Any]) -> None:
    groups = {
        name: list(group)
        for name, group in groupby(sorted(rows, key=lambda row: _task(row).name), key=lambda row: _task(row).name)
    }
    if options.recipe and len(groups) > 1:
        raise ValueError(f"tables of {' and '.join(groups)} need a recipe each: call them one by one.")
    output = Path(options.output)
    made = {name: _comparison(name, group, options, settings) for name, group in groups.items()}
    comparisons = {name: comparison for name, (comparison, _) in made.items()}
    console, results = Console(), {}
    for name, comparison in comparisons.items():
        folder = output if len(comparisons) == 1 else output / name.replace(" ", "-")
        if options.dry_run:
            print(shlex.join(_command(comparison, made[name][1], folder)))
        else:
            results[name] = compare(comparison, folder, console=console)
    if options.dry_run:
        return
    shown = " and ".join(f"{each.settings['model']['host']} on {each.recipe}" for each in comparisons.values())
    caption = (
        f"Measured with another network and other data: {shown}. Compare what stands in parentheses, the difference to "
        "the first row."
    )
    about = {"scale": "small", "comparisons": [each.to_dict() for each in comparisons.values()]}

    def found(row: PublishedRow) -> Measured:
        return compared(results[_task(row).name], variant_name(row.upsampler, row.upsampler_options), row)

    _report(rows, found, output, about, caption, console)


def _comparison(
    task: str, rows: list[PublishedRow], options: argparse.Namespace, settings: dict[str, Any]
) -> tuple[Comparison, dict[str, Any]]:
    """The comparison for the rows of one task, and its settings that differ from the recipe."""
    recipe = options.recipe or TASKS[task].small_recipe
    names = dict.fromkeys(variant_name(row.upsampler, row.upsampler_options) for row in rows)
    chosen = chosen_settings(options, read_recipes([recipe]), settings)
    comparison = Comparison(recipe, list(names), options.seeds, chosen)
    if comparison.task.name != task:
        raise ValueError(
            f"these tables are of {task}, and the recipe {recipe} of {comparison.task.name}: give another --recipe, or "
            "other --rows."
        )
    return comparison, chosen


def _command(comparison: Comparison, settings: dict[str, Any], output: Path) -> list[str]:
    """The command line that starts the same comparison, as a list of words."""
    words = ["resfu", "compare", "--recipe", comparison.recipe, "--upsamplers", ",".join(comparison.upsamplers)]
    words += ["--seeds", ",".join(map(str, comparison.seeds)) + ",", "--output", str(output)]
    for key, value in flattened(settings).items():
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return words


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


def _task(row: PublishedRow) -> Task:
    return task_of(row.host, row.dataset)


def _table(text: str) -> int:
    known = {f"table{number}": number for number in TABLES}
    if text not in known:
        raise argparse.ArgumentTypeError(f"choose from {', '.join(known)}, got {text!r}")
    return known[text]


def _patterns(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _parser() -> Parser:
    parser = Parser(
        prog="resfu reproduce",
        description="Train the rows of published tables, each from its recipe, measure them on the test split, and "
        "print published and measured numbers side by side; table*.json holds them. Interrupted, the same command goes "
        "on where it was. " + SETTINGS_HELP,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("tables", nargs="+", type=_table, metavar="TABLE", help=f"of {', '.join(f'table{n}' for n in TABLES)}")
    add("--output", required=True, metavar="DIR", help="folder for the runs and the results")
    add(
        "--scale",
        choices=["published", "small"],
        default="published",
        help="small: the same upsamplers in a small network on generated data",
    )
    add("--recipe", metavar="NAME", help="with --scale small: another recipe than that of the task")
    words = "only these: labels (resfu, c, K=*) or trainings (segmenter-vit-s_*)"
    add("--rows", "--row", type=_patterns, default=[], metavar="A,B", help=words)
    add("--seeds", type=seeds, default=(0,), metavar="N | A,B", help="a number of seeds, or a comma-separated list (1)")
    add("--dry-run", action="store_true", help="print what would be trained")
    add_training_options(parser)
    return parser
