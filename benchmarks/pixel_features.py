"""The probe of docs/pixel_features.md: upsamplers fitted to frozen encoders for the same time, then measured on CamVid.

    python -m benchmarks.pixel_features --root CAMVID --runs DIR

Fits by `resfu distill` on CamVid's training images, whose labels it leaves alone, then `resfu probe`. What is done is
kept in the folder of the runs: called again, it goes on. One thread. Writes
benchmarks/results/pixel-features.json, where what this call does not measure stays.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks import results

ENCODERS = ("efficientnet-lite0", "efficientnet-lite2")
# What is fitted -> what is probed, and the optimiser's steps that take about the same time on one thread.
FITS = {
    "stack-jbu+steps=1": ("stack-jbu+steps=4", 420),
    "naf+dim=64": ("naf+dim=64", 250),
    "anyup+dim=32": ("anyup+dim=32", 300),
    "resfu-image": ("resfu-image", 440),
}
PAIRS = ("scales", "pooled")
RATE, BATCH = 1e-3, 4
SIZE, STEPS, SEEDS, PIXELS, TRAIN_IMAGES = 352, 3000, 3, 1024, 92
PAGE = Path(__file__).parents[1] / "docs" / "pixel_features.md"
FILE = results.FOLDER / "pixel-features.json"


def run(*words: str) -> float:
    """A command of resfu; the CPU seconds that it took."""
    before = _seconds()
    subprocess.run([sys.executable, "-m", "resfu", *words, "--threads", "1"], check=True)
    return _seconds() - before


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fit(encoder: str, pairs: str, word: str, steps: int, root: Path, runs: Path) -> tuple[Path, float]:
    """The weights of a fit, and the CPU seconds of all its calls."""
    folder = runs / f"{encoder}_{pairs}_{word}"
    weights, clock = folder / "weights.safetensors", folder / "cpu_seconds.json"
    used = json.loads(clock.read_text()) if clock.is_file() else 0.0
    if not weights.is_file():
        words = ["--encoder", encoder, "--data", "camvid", "--images", str(root), "--upsampler", word]
        words += ["--pairs", pairs, "--steps", str(steps), "--batch-size", str(BATCH), "--lr", str(RATE)]
        used += run("distill", *words, "--validate-every", str(steps), "--run", str(folder))
        clock.write_text(json.dumps(used))
    return weights, used


def measure(encoder: str, pairs: str, root: Path, runs: Path) -> dict:
    """Fits to one kind of pairs and the probe, of one encoder."""
    rows, seconds = [], {}
    for word, (probed, steps) in FITS.items():
        weights, seconds[probed] = fit(encoder, pairs, word, steps, root, runs)
        rows.append(f"{probed}@{weights}")
    out = runs / f"{encoder}_{pairs}_probe"
    words = ["--encoder", encoder, "--data", "camvid", "--root", str(root), "--upsamplers", ",".join(rows)]
    words += ["--size", str(SIZE), "--steps", str(STEPS), "--seeds", str(SEEDS), "--pixels", str(PIXELS)]
    run("probe", *words, "--train-images", str(TRAIN_IMAGES), "--out", str(out))
    found = json.loads((out / "results.json").read_text())
    steps_of = dict(FITS.values())
    for row in found["rows"]:
        if row["name"] in steps_of:
            row["fit"] = {"steps": steps_of[row["name"]], "cpu_seconds": round(seconds[row["name"]], 1)}
    fitted = {"rate": RATE, "pairs": pairs, "batch_size": BATCH}
    return {"encoder": encoder, "fits": fitted, "settings": found["settings"], "rows": found["rows"]}


def table() -> list[str]:
    """The measured table of docs/pixel_features.md; `benchmarks.pages` writes it there."""
    found, lines = results.measured(FILE.stem), []
    for encoder in dict.fromkeys(of["encoder"] for of in found):
        lines += [f"**{encoder}**", ""]
        lines.append(
            "| upsampler | fitted to pairs | fit, CPU s (steps) | mIoU | bIoU | pixels right | pooled: cosine "
            "| pooled: R² | two scales: cosine | R² | averaged down: cosine | constant off by |"
        )
        lines.append("|---|---|" + "--:|" * 10)
        unfitted: set[str] = set()
        for of in found:
            if of["encoder"] != encoder:
                continue
            for row in of["rows"]:
                if "fit" in row or row["name"] not in unfitted:
                    lines.append(_line(row, of["fits"]["pairs"]))
                if "fit" not in row:
                    unfitted.add(row["name"])
        lines.append("")
    return lines[:-1]


def _line(row: dict, pairs: str) -> str:
    """An upsampler's row; nearest and bilinear have nothing to fit."""
    spent = f"{row['fit']['cpu_seconds']:.0f} ({row['fit']['steps']})" if "fit" in row else "–"
    cells = [row["name"], pairs if "fit" in row else "–", spent]
    for key in ("miou", "biou", "aacc"):
        values = [one[key] for one in row["runs"]]
        mean = sum(values) / len(values)
        deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
        cells.append(f"{mean:.2f} ± {deviation:.2f}")
    fidelity = row["fidelity"]
    cells += [f"{fidelity[key]:.1f}" for key in ("pooled_cos", "pooled_r2", "cos", "r2", "down_cos")]
    cells.append(f"{fidelity['constant']:.0e}")
    return "| " + " | ".join(cells) + " |"


TABLES = {"probe": table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, help="folder of CamVid")
    parser.add_argument("--runs", type=Path, help="folder for fits and probes")
    parser.add_argument("--encoders", nargs="*", default=list(ENCODERS))
    parser.add_argument("--pairs", nargs="*", choices=PAIRS, default=list(PAIRS))
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    found = {(of["encoder"], of["fits"]["pairs"]): of for of in results.measured(FILE.stem)}
    for cell in itertools.product(options.encoders, options.pairs):
        found[cell] = measure(*cell, options.root, options.runs)
        order = [found[each] for each in itertools.product(ENCODERS, PAIRS) if each in found]
        print(results.save(FILE.stem, SEEDS, order))


if __name__ == "__main__":
    main()
