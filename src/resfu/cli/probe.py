"""`resfu probe`: a linear classifier on pixel features, and their fidelity, for several upsamplers."""

import argparse
import sys
from pathlib import Path

from resfu.cli.arguments import Parser, positive


def run(words: list[str]) -> int:
    """Measure, print the table and write results.json and report.html."""
    options = _parser().parse_args(words)
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from resfu.compare.probe.report import lead, render, tables
    from resfu.compare.probe.run import parse_rows, probe
    from resfu.files.atomic import read_json, write_json, write_text
    from resfu.files.lock import locked

    if options.threads:
        torch.set_num_threads(options.threads)
    folder = Path(options.out)
    written = folder / "results.json"
    chosen = options.upsamplers.split(",") if options.upsamplers else []
    console = Console()
    with locked(folder, "resfu probe", "give another --out"):
        before = read_json(written) if written.is_file() else None
        with Progress(console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty()) as progress:
            bars = {row: progress.add_task(row, total=None) for row in parse_rows(chosen)}
            results = probe(
                options.encoder,
                chosen,
                options.data,
                options.root,
                options.size,
                options.steps,
                range(options.seeds),
                (options.train_images, options.val_images),
                options.pixels,
                before=before,
                on_step=lambda row: progress.advance(bars[row]),
                on_row=lambda results: write_json(written, results),
            )
        write_text(folder / "report.html", render(results))
    console.print(*tables(results), lead(results), sep="\n", highlight=False)
    print(f"results: {written}, {folder / 'report.html'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu probe",
        description="Train a linear classifier on the pixel features of a frozen encoder, once an upsampler and seed, "
        "and measure it; beside it how well the features agree with those of larger images. Nearest and bilinear are "
        "always there. Called again with the same settings and folder, it measures the rows that are missing and keeps "
        "the others.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--encoder", default="efficientnet-lite0", metavar="NAME", help="as of resfu.PixelFeatures (efficientnet-lite0)"
    )
    add(
        "--upsamplers",
        metavar="A,B",
        help="with options and weights: naf+dim=64@runs/fit/weights.safetensors,anyup@published.pth",
    )
    add("--data", default="camvid", metavar="NAME", help="a data set with label maps (camvid)")
    add("--root", metavar="DIR", help="its folder")
    add("--size", type=positive, default=448, metavar="N", help="side of the squares that are looked at (448)")
    add("--steps", type=positive, default=3000, metavar="N", help="of each classifier, with 2 images a step (3000)")
    add("--seeds", type=positive, default=3, metavar="N", help="classifiers an upsampler (3)")
    add(
        "--pixels",
        type=positive,
        metavar="N",
        help="train on N labelled pixels of each image and seed, so that it is upsampled once, not at every step (all)",
    )
    add("--train-images", type=positive, metavar="N", help="at most (all)")
    add("--val-images", type=positive, metavar="N", help="at most (all)")
    add("--out", default="runs/probe", metavar="DIR", help="for results.json and report.html (runs/probe)")
    add("--threads", type=positive, metavar="N", help="CPU threads (PyTorch's choice)")
    return parser
