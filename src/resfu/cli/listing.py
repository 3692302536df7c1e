"""`resfu list`: what can be built by name, the recipes, and the settings of a training."""

import inspect
import re
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from resfu import HOSTS, UPSAMPLERS, Upsampler, create_upsampler
from resfu.cli.arguments import Parser
from resfu.compare.narrow import print_table
from resfu.evaluation.cost.counting import count_parameters
from resfu.files.atomic import write_json
from resfu.recipes import read_recipe, recipe_names

_CHANNELS = 256
_RATIOS = {"any": "any real", "integer": "any integer", "2": "x2", "fixed": "fixed at construction"}


def run(argv: list[str]) -> int:
    """Print the requested list; only the list of settings needs an extra of the package."""
    parser = Parser(
        prog="resfu list",
        description=f"List the upsamplers and the hosts. Parameters are those of the ratio 2, {_CHANNELS} channels and "
        f"as many of the guidance (3 of an image). A wide terminal also shows what each upsampler does.",
    )
    parser.add_argument(
        "what", nargs="?", choices=["upsamplers", "recipes", "settings"], default="upsamplers", help="(upsamplers)"
    )
    words_on_task = "with settings: name of a task (label maps); another word lists them"
    parser.add_argument("--task", default="label maps", metavar="NAME", help=words_on_task)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write upsamplers and hosts, or recipes, as JSON")
    options = parser.parse_args(argv)
    console = Console()
    if options.what == "settings":
        if options.json is not None:
            raise ValueError("settings are a help text, not a table: --json is for upsamplers and recipes.")
        _print_settings(options.task)
        return 0
    record = _print_recipes(console) if options.what == "recipes" else _print_upsamplers(console)
    if options.json is not None:
        write_json(options.json, record)
    return 0


def _print_recipes(console: Console) -> dict[str, Any]:
    table = Table("recipe", "network", "data", title="resfu fit --recipe NAME")
    recipes = {name: read_recipe(name) for name in recipe_names()}
    for name, settings in recipes.items():
        table.add_row(name, settings["model"]["host"], settings["data"]["dataset"])
    print_table(console, table)
    return recipes


def _print_settings(task: str) -> None:
    from resfu.tasks import TASKS  # the extra `train`
    from resfu.tasks.experiment import parser

    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; choose one of {', '.join(TASKS)}.")
    print(parser(TASKS[task]).format_help())


def _print_upsamplers(console: Console) -> dict[str, Any]:
    upsamplers = _upsamplers(summary=True)
    if console.measure(upsamplers, options=console.options.update(width=10_000)).maximum > console.width:
        upsamplers = _upsamplers(summary=False)
    title = "resfu.create_host(name, ...)"
    hosts = Table("host", title=title, min_width=len(title))
    for name in HOSTS:
        hosts.add_row(name)
    print_table(console, upsamplers)
    print_table(console, hosts)
    return {"upsamplers": {name: _described(name) for name in UPSAMPLERS}, "hosts": list(HOSTS)}


def _upsamplers(summary: bool) -> Table:
    table = Table("upsampler", "guidance", "ratios", title="resfu.create_upsampler(name, ...)")
    table.add_column("parameters", justify="right")
    table.add_column("arXiv")
    if summary:
        table.add_column("what it does")
    for name in UPSAMPLERS:
        row = _described(name)
        cells = [name, row["guidance"], row["ratios"], f"{row['parameters']:,}", row["arxiv"]]
        table.add_row(*cells, *([escape(row["summary"])] if summary else []))
    return table


def _described(name: str) -> dict[str, Any]:
    method = UPSAMPLERS[name]
    return {
        "guidance": "none" if not method.guided else "image" if method.image_guided else "features",
        "ratios": _ratios(name),
        "parameters": count_parameters(_build(name, 2)),
        "arxiv": method.paper,
        "summary": _summary(method),
    }


def _build(name: str, ratio: int) -> Upsampler:
    guidance_channels = 3 if UPSAMPLERS[name].image_guided else _CHANNELS
    with torch.device("meta"):  # counting needs no memory
        return create_upsampler(name, channels=_CHANNELS, guidance_channels=guidance_channels, scale_factor=ratio)


def _ratios(name: str) -> str:
    """Which ratios an upsampler takes; for one with a fixed ratio, test whether it can be built for ratio 3."""
    ratios = UPSAMPLERS[name].ratios
    if ratios == "fixed":
        try:
            _build(name, 3)
        except ValueError:
            return "power of two"
    return _RATIOS[ratios]


def _summary(method: type[Upsampler]) -> str:
    """The docstring's first line, without the arXiv reference, which has its own column."""
    return re.sub(r" \(arXiv [^)]*\)", "", (inspect.getdoc(method) or "").partition("\n")[0])
