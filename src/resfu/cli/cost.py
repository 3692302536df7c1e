"""`resfu cost`: what a network costs with each upsampler, and the published cost tables recounted."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from resfu.cli.arguments import Parser, positive, size, variants
from resfu.compare.narrow import print_table
from resfu.compare.variants import parse_variant
from resfu.evaluation.cost.host import Work, build_on_meta, host_work, inference_parameters
from resfu.evaluation.cost.tables import COST_TABLES, RecountedRow, compare_tables
from resfu.files.atomic import write_json
from resfu.hosts import DETECTION_HOSTS, HOSTS
from resfu.upsamplers import UPSAMPLERS

_SIZE = (512, 512)
_WIDTH = 100  # of the output where it goes into a file
_NOTHING = "nearest"  # no parameters, no work: what is left is the network without an upsampler
_ALL, _RUN = "nothing\nleft out", "as run\nhere"
_MARKS = {"equal": "=", "misprint": "*", "unexplained": "?", "different": "DIFFERENT"}


def run(argv: Sequence[str]) -> int:
    """Run the command on the arguments after `resfu cost`.

    Returns:
        1 when a published number differs for no known reason, or an upsampler asked for by name could not be counted.
    """
    options = _parser().parse_args(argv)
    if (options.host is None) == (options.tables is None):
        raise ValueError("`resfu cost` needs either a HOST or --tables (see `resfu cost --help`)")
    given = [name for name in ("upsamplers", "size", "num_classes") if getattr(options, name) is not None]
    if options.host is None and given:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{words} is for a HOST: the published tables have their own.")
    options.size = options.size or _SIZE
    if options.json is not None:
        if options.json.is_dir():
            raise ValueError(f"--json must be a file, and {options.json} is a folder.")
        options.json.parent.mkdir(parents=True, exist_ok=True)
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    code, record = _tables(console, options.tables) if options.host is None else _host(console, options)
    if options.json is not None:
        write_json(options.json, record)
        console.print(f"written to {options.json}", soft_wrap=True, highlight=False)
    return code


def _host(console: Console, options: argparse.Namespace) -> tuple[int, dict]:
    chosen = {word: parse_variant(word) for word in options.upsamplers or UPSAMPLERS}
    detection = options.host in DETECTION_HOSTS  # their work depends on what they find in an image
    classes = options.num_classes or (80 if detection else 150)
    counted: dict[str, tuple[int, Work | None]] = {}
    left_out: dict[str, str] = {}
    with console.status("building and counting"):
        base = build_on_meta(options.host, _NOTHING, num_classes=classes)
        parameters, rest = inference_parameters(base), 0 if detection else host_work(base, options.size).rest
        for name, (upsampler, settings) in chosen.items():
            try:
                net = build_on_meta(options.host, upsampler, settings, classes)
                counted[name] = inference_parameters(net), None if detection else host_work(net, options.size)
            except ValueError as error:
                left_out[name] = str(error)
    (H, W), image = options.size, "" if detection else ", one image of {} x {}"
    table = _empty(f"{options.host}, num_classes {classes}{image.format(H, W)}", ["upsampler"])
    for header in ("parameters",) if detection else ("parameters", "paper's G", _ALL, _RUN):
        table.add_column(header, justify="right")
        table.add_column("added", justify="right")
    for name, (total, work) in counted.items():
        counts = (work.paper, work.with_custom_operations, work.as_run) if work else ()
        giga = [f"{n / 1e9:.3f}" for count in counts for n in (count, count - rest)]
        table.add_row(name, f"{total:,}", f"{total - parameters:,}", *giga)
    print_table(console, table)
    for name, reason in left_out.items():
        console.print(f"left out: {name}: {reason}", highlight=False, markup=False)
    record = {
        "host": options.host,
        "num_classes": classes,
        "size": options.size,
        "without_upsampler": {"parameters": parameters, "multiply_accumulates": rest},
        "upsamplers": {
            name: {"parameters": total, **(_record(work) if work else {})} for name, (total, work) in counted.items()
        },
        "left_out": left_out,
    }
    return int(bool(options.upsamplers and left_out)), record


def _tables(console: Console, tables: Sequence[int]) -> tuple[int, dict]:
    rows = compare_tables(tables)
    verdicts: list[str] = []
    record = []
    for number, group in groupby(rows, key=lambda row: row.row.table):
        with console.status(f"building and counting table {number}"):
            compared = list(group)
        _print_table(console, number, compared)
        verdicts += [cell.verdict for row in compared for cell in row.cells]
        record += [
            {**asdict(row.row), "cells": [asdict(cell) for cell in row.cells], "parameters": row.parameters}
            | (_record(row.work) if row.work else {})
            for row in compared
        ]
    counts = {verdict: verdicts.count(verdict) for verdict in _MARKS}
    console.print(
        f"published numbers: {len(verdicts)}; equal to two decimals: {counts['equal']}, known misprints: "
        f"{counts['misprint']}, unexplained: {counts['unexplained']}, different: {counts['different']}",
        highlight=False,
    )
    return int(counts["different"] > 0), {"summary": counts, "rows": record}


def _print_table(console: Console, number: int, rows: Sequence[RecountedRow]) -> None:
    flops = any(row.work for row in rows)
    table = _empty(f"Table {number} (arXiv 2407.02283)", ["row", "host"])
    for header in ("parameters", "published\nM", "", *(("paper's G", "published\nG", "", _ALL, _RUN) if flops else ())):
        table.add_column(header, justify="right" if header else "left")
    for row in rows:
        words = [row.row.label, row.row.host]
        for cell in row.cells:
            ours = f"{row.parameters:,}" if cell.metric == "params_m" else f"{cell.computed:.3f}"
            words += [ours, f"{cell.published:.2f}", _MARKS[cell.verdict]]
        if row.work:
            words += [f"{n / 1e9:.3f}" for n in (row.work.with_custom_operations, row.work.as_run)]
        table.add_row(*words)
    console.print(table)
    for row in rows:
        for cell in row.cells:
            if cell.reason:
                name, mark = f"{row.row.label}, {row.row.host}", _MARKS[cell.verdict]
                console.print(f"{mark} {name}, {cell.published:.2f}: {cell.reason}", highlight=False, markup=False)
    console.print()


def _empty(title: str, headers: Sequence[str]) -> Table:
    return Table(*headers, title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)


def _record(work: Work) -> dict[str, int]:
    return {
        "multiply_accumulates_paper": work.paper,
        "multiply_accumulates_with_custom_operations": work.with_custom_operations,
        "multiply_accumulates_as_run": work.as_run,
    }


def _table_numbers(text: str) -> tuple[int, ...]:
    known = {str(number): number for number in COST_TABLES}
    words = [word.strip() for word in text.split(",")]
    if unknown := [word for word in words if word not in known]:
        raise argparse.ArgumentTypeError(f"choose from {', '.join(known)}, got {unknown[0]!r}")
    return tuple(known[word] for word in words)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu cost",
        description="Count the parameters and the multiply-accumulates of a network with each upsampler: in the "
        "paper's convention (custom operations free), for the published algorithms with nothing left out, and as they "
        "run here on the CPU. With --tables: count every network of the published cost tables and compare.",
    )
    add = parser.add_argument
    add("host", nargs="?", metavar="HOST", help=f"of {', '.join(HOSTS)}")
    add(
        "--upsamplers",
        type=variants,
        metavar="A,B",
        help=f"of {', '.join(UPSAMPLERS)} (all); with constructor arguments if wanted: resfu+kernel_size=5+groups=2",
    )
    add("--size", type=size, metavar="N | HxW", help="of the image (512x512)")
    add("--num-classes", type=positive, metavar="N", help="logits a pixel (150), or classes of objects (80)")
    known = ", ".join(map(str, COST_TABLES))
    add(
        "--tables",
        nargs="?",
        type=_table_numbers,
        const=COST_TABLES,
        metavar="A,B",
        help=f"recount the published tables: of {known} (all)",
    )
    add("--json", type=Path, metavar="FILE", help="write everything counted as JSON")
    return parser
