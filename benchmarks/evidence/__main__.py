"""Train the rows of docs/evidence.md, each going on from where it stands; one JSON a training.

    python -m benchmarks.evidence --root data/camvid --rows bilinear,resfu --seeds 0,1,2 --runs runs/evidence

Without `--rate` a row is first trained with each of the three rates on four fifths of the training frames, and takes
the one with the best mIoU on the last fifth.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.evidence.counts import curve, image_counts, scores
from benchmarks.evidence.protocol import HOSTS, RATES, ROWS, Row, Training
from resfu.compare.machine import describe_machine, describe_versions
from resfu.files.atomic import write_json
from resfu.tasks.loading import load_module
from resfu.tasks.run import RunFolder, console_progress, train
from resfu.training.record import Record


def main() -> None:
    """See the module."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    console = Console()
    for seed in options.seeds:
        for row in (ROWS[name] for name in options.rows):
            rate = options.rate or best_rate(row, options, console)
            if not options.only_rates:
                run(Training(row, rate, seed, False, options.encoder, options.steps, options.host), options, console)


def best_rate(row: Row, options: argparse.Namespace, console: Console) -> float:
    """The rate of a row with the best mIoU on the held-out frames, at seed 0."""
    tried = {}
    for rate in RATES:
        training = Training(row, rate, 0, True, options.encoder, options.choosing_steps or options.steps, options.host)
        tried[rate] = run(training, options, console)["metrics"]["miou"]
    return max(tried, key=tried.__getitem__)


def run(training: Training, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Train and measure, unless that is done already."""
    if training.result.is_file():
        return json.loads(training.result.read_text("utf-8"))
    folder = RunFolder(Path(options.runs) / training.name)
    experiment = training.experiment(options.root)
    record = Record(experiment.task.monitor)
    console.print(f"{training.name}: {folder.state}")
    trained = train(
        experiment,
        folder,
        checkpoint=folder.last if folder.last.is_file() else None,
        callbacks=[record],
        progress=console_progress(experiment, console, training.name),
        logs=False,
        devices=1,
    )
    module, data = load_module(folder.last), trained.data
    data.setup("validate")
    counts = image_counts(module, data.val_dataloader())
    result = {
        "row": training.row.name,
        "seed": training.seed,
        "rate": training.rate,
        "host": training.host,
        "encoder": training.encoder,
        "steps": training.steps,
        "measured_on": data.splits["validate"],
        "metrics": scores(counts),
        "bands": curve(counts),
        "counts": None if training.choosing else counts,
        "curves": {"loss": _means(record.loss, 20), "miou": record.quality},
        "training_seconds": round(record.seconds, 1),
        "load": os.getloadavg()[1],
        "threads": torch.get_num_threads(),
        "machine": describe_machine(),
        "versions": describe_versions(),
    }
    write_json(training.result, result)
    return result


def _means(curve: list[list[float]], length: int) -> list[list[float]]:
    """A curve of fewer points, each the mean of `length`."""
    parts = [curve[i : i + length] for i in range(0, len(curve), length)]
    return [[part[-1][0], round(sum(value for _, value in part) / len(part), 4)] for part in parts]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of CamVid")
    parser.add_argument("--rows", type=lambda word: word.split(","), default=list(ROWS), help="of " + ", ".join(ROWS))
    parser.add_argument("--seeds", type=lambda word: [int(n) for n in word.split(",")], default=[0])
    parser.add_argument("--encoder", choices=("frozen", "trained"), default="frozen")
    parser.add_argument("--host", choices=HOSTS, default=HOSTS[0])
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--rate", type=float, help="of the head; default: chosen on the held-out frames")
    parser.add_argument(
        "--choosing-steps", type=int, help="steps of a training that chooses the rate; default: --steps"
    )
    parser.add_argument("--only-rates", action="store_true", help="choose the rates and stop")
    parser.add_argument("--runs", default="runs/evidence", help="folder of checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for name in options.rows:
        if name not in ROWS:
            parser.error(f"unknown row {name!r}; rows are {', '.join(ROWS)}")
    return options


if __name__ == "__main__":
    main()
