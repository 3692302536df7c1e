"""A small row on real CT voxels: `python -m benchmarks.evidence.volumes --scan mini-ct/abdomen_3mm.npz`.

There is one scan (TotalSegmentator's test data, Apache-2.0; 52 axial slices at 3 mm, labels by that model). It is cut
into blocks of eight slices; half of the blocks are predicted by a network trained on the others, then the reverse.
Training slices beside a predicted block are left out. Writes benchmarks/results/evidence/mini-ct.json.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch

from benchmarks.results import FOLDER
from resfu.compare.comparison import Comparison
from resfu.compare.machine import describe_machine, describe_versions
from resfu.compare.run import compare
from resfu.data.medical.writers import Case, write_synapse
from resfu.files.atomic import write_json

RESULT = FOLDER / "evidence" / "mini-ct.json"
ROWS = ("bilinear", "dysample", "carafe", "resfu")
BLOCK, HALVES = 8, (0, 1)


def predicted_slices(slices: int, half: int) -> np.ndarray:
    """Which slices a half predicts: every other block, as booleans [slices]."""
    return np.arange(slices) // BLOCK % 2 == half


def training_slices(predicted: np.ndarray) -> np.ndarray:
    """The other slices, without those beside a predicted one: booleans [slices]."""
    beside = predicted.copy()
    beside[1:] |= predicted[:-1]
    beside[:-1] |= predicted[1:]
    return ~beside


def write_half(scan: Path, half: int, folder: Path) -> Path:
    """The data of one half in Synapse's format, unless they are there."""
    if folder.is_dir():
        return folder
    with np.load(scan) as arrays:
        image, label = arrays["image"].astype(np.float32) / 255, arrays["label"]
    predicted = predicted_slices(len(image), half)
    trained = training_slices(predicted)
    return write_synapse(
        folder,
        [Case("train", 1, image[trained], label[trained]), Case("test", 2, image[predicted], label[predicted])],
    )


def comparison(root: Path, seeds: list[int], steps: int) -> Comparison:
    """TransUNet's small form on the data of one half."""
    settings = {
        "data": {
            "dataset": "synapse",
            "root": str(root),
            "options": None,
            "train_options": None,
            "eval_options": None,
            "crop_size": [112, 112],
            "num_workers": 0,
        },
        "model": {"optimisation": {"learning_rate": 0.002}},
        "trainer": {"max_steps": steps, "val_check_interval": steps},
    }
    return Comparison("ct", ROWS, seeds, settings)


def table() -> list[str]:
    """Dice of each row in percent, and its difference from bilinear in each of the trainings."""
    if not RESULT.is_file():
        return []
    halves = json.loads(RESULT.read_text("utf-8"))["halves"]
    dice = {name: [run["dice"] for half in halves for run in half["runs"] if run["upsampler"] == name] for name in ROWS}
    lines = ["| upsampler | Dice, % | over bilinear, each training |", "|:--|--:|--:|"]
    for name, values in dice.items():
        gains = ["", ", ".join(f"{a - b:+.1f}" for a, b in zip(values, dice["bilinear"], strict=True))]
        shown = f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"
        lines.append(f"| {name} | {shown} | {gains[name != 'bilinear']} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--seeds", type=lambda word: [int(n) for n in word.split(",")], default=[0, 1])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--runs", type=Path, default=Path("runs/mini-ct"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    halves = []
    for half in HALVES:
        root = write_half(options.scan, half, options.runs / f"data{half}")
        results = compare(comparison(root, options.seeds, options.steps), options.runs / f"half{half}", pictures=2)
        runs = [
            {key: run[key] for key in ("upsampler", "seed", "training_seconds")} | {"dice": run["metrics"]["dice"]}
            for run in results["runs"]
        ]
        halves.append({"half": half, "runs": runs})
    found = {"steps": options.steps, "halves": halves, "machine": describe_machine(), "versions": describe_versions()}
    write_json(RESULT, found)
    print("\n".join(table()))


if __name__ == "__main__":
    main()
