"""`resfu bench`: time upsamplers side by side at chosen sizes."""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from resfu.cli.arguments import Parser, positive, size, upsamplers
from resfu.compare.machine import describe_machine, describe_versions
from resfu.compare.narrow import print_table
from resfu.evaluation.bench import DTYPES, Pass, Row, Workload, measure
from resfu.files.atomic import write_json
from resfu.upsamplers import UPSAMPLERS

_WIDTH = 100  # of the output where it goes into a file


def run(argv: Sequence[str]) -> int:
    """Run the command on the arguments after `resfu bench`; returns 1 when an upsampler named there failed."""
    options = _parser().parse_args(argv)
    workload = Workload(
        channels=options.channels,
        guidance_channels=options.guidance_channels,
        low=options.low,
        ratio=options.ratio,
        batch=options.batch,
        dtype=options.dtype,
        device=options.device,
        channels_last=options.channels_last,
    )
    output = options.json
    if output is not None:
        if output.is_dir():
            raise ValueError(f"--json must be a file, and {output} is a folder.")
        output.parent.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    rows, left_out = _measure(options.upsamplers or tuple(UPSAMPLERS), workload, options.rounds, console)
    _print(console, workload, rows, left_out)
    if output is not None:
        record = {
            "machine": {**describe_machine(), "device": _device(workload), "threads": torch.get_num_threads()},
            "versions": describe_versions(),
            "arguments": {**asdict(workload), "rounds": options.rounds},
            "upsamplers": {name: asdict(row) for name, row in rows.items()},
            "left_out": left_out,
        }
        write_json(output, record)
        console.print(f"written to {output}", soft_wrap=True, highlight=False)
    return 1 if options.upsamplers and left_out else 0


def _measure(
    names: Sequence[str], workload: Workload, repeats: int, console: Console
) -> tuple[dict[str, Row], dict[str, str]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        return measure(
            names,
            workload,
            repeats,
            lambda done, total, words: progress.update(task, completed=done, total=total, description=words),
        )


def _print(console: Console, workload: Workload, rows: Mapping[str, Row], left_out: Mapping[str, str]) -> None:
    (h, w), (H, W) = workload.low, workload.size
    title = (
        f"batch {workload.batch}, channels {workload.channels}, {h} x {w} -> {H} x {W}, guidance "
        f"{workload.guidance_channels}, {workload.dtype}, {_device(workload)}"
    )
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("upsampler")
    ratios = ("/bi-\nlin.", "peak\n/out")
    times = [f"{words} ms\n(quartiles)" for words in ("forward", "fwd + bwd")]
    for header in ("steps", "par-\nams", "MACs", times[0], *ratios, times[1], *ratios):
        table.add_column(header, justify="right")
    for name, row in rows.items():
        counts = [_count(row.parameters), _count(row.multiply_accumulates)]
        cells = [cell for each in (row.forward, row.forward_backward) for cell in _cells(each)]
        table.add_row(name, str(row.steps), *counts, *cells)
    print_table(console, table)
    for name, reason in left_out.items():
        console.print(f"left out: {name}: {reason}", highlight=False, markup=False)


def _cells(measured: Pass) -> tuple[str, str, str]:
    latency = measured.latency
    times = f"{_short(latency.median_ms)} ({_short(latency.lower_quartile_ms)}-{_short(latency.upper_quartile_ms)})"
    over = "" if measured.over_bilinear is None else _short(measured.over_bilinear)
    return times, over, _short(measured.peak_over_output)


def _short(number: float) -> str:
    """A number with three significant digits; digits before the decimal point are never dropped."""
    digits = 2 - math.floor(math.log10(number)) if number > 0 else 0
    return f"{number:.{min(max(digits, 0), 2)}f}"


def _count(number: int) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return _short(number / unit) + name
    return str(number)


def _device(workload: Workload) -> str:
    if workload.device == "cpu":
        return f"CPU, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    return torch.cuda.get_device_name(workload.device)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu bench",
        description="Time upsamplers side by side in one process: forward, forward with backward, peak memory, "
        "multiply-accumulates, parameters. All take turns within every round, so that a loaded machine slows them "
        "alike; bilinear interpolation always takes part. What knows the ratio 2 alone goes in steps; what can't take "
        "the ratio or the widths is listed with the reason (exit code 1 if it was asked for by name).",
    )
    add = parser.add_argument
    add("--upsamplers", type=upsamplers, metavar="A,B", help=f"of {', '.join(UPSAMPLERS)} (all)")
    add("--channels", type=positive, default=256, metavar="N", help="of the features (256)")
    add("--guidance-channels", type=positive, default=64, metavar="N", help="of the guidance (64); an image has 3")
    add("--low", type=size, default=(64, 64), metavar="N | HxW", help="size of the features (64x64)")
    add("--ratio", type=float, default=2.0, metavar="X", help="of the output to the features, a number from 1 (2)")
    add("--batch", type=positive, default=1, metavar="N", help="images (1)")
    add("--dtype", choices=list(DTYPES), default="float32", help="of inputs and parameters (float32)")
    add("--device", default="cpu", metavar="cpu | cuda", help="where to measure (cpu)")
    add("--threads", type=positive, metavar="N", help="CPU threads (PyTorch's choice)")
    add("--rounds", type=positive, default=9, metavar="N", help="measured rounds (9), after one warm-up round")
    add("--channels-last", action="store_true", help="inputs and parameters channels-last in memory")
    add("--json", "--output", type=Path, metavar="FILE", help="write everything measured, with the machine, as JSON")
    return parser
