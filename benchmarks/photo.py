"""What `resfu predict` takes for one photo of a camera: time and peak memory of the whole command.

    python -m benchmarks.photo [--small]

A photo of 4000 x 3000 and 150 classes on EfficientNet-Lite0, each upsampler and each way to see the photo in a process
of its own, on two threads. Seconds are of the whole command, imports and files included; memory is the most that the
process held (`ru_maxrss`). Weights are of one step: they change neither. Writes benchmarks/results/large-photo.json.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from benchmarks.results import save

_CLASSES = 150
_THREADS = 2
_WAYS = {"whole": (), "--longest-side 2048": ("--longest-side", "2048"), "--window 1024": ("--window", "1024")}


def write_photo(path: Path, width: int, height: int, seed: int = 0) -> None:
    """Smooth colours with some noise, as a JPEG."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = smooth + random.integers(-8, 9, smooth.shape, dtype=np.int16)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def train(folder: Path, upsampler: str) -> Path:
    """A run of one step on two small photos; returns its folder."""
    data = folder / "data"
    if not data.exists():
        for kind in ("images", "labels"):
            for split in ("train", "val"):
                (data / kind / split).mkdir(parents=True)
        (data / "classes.txt").write_text("".join(f"class {i}\n" for i in range(_CLASSES)), encoding="utf-8")
        for split in ("train", "val"):
            for i in range(2):
                write_photo(data / "images" / split / f"{i}.jpg", 96, 64, seed=i)
                Image.fromarray(np.full((64, 96), i, dtype=np.uint8)).save(data / "labels" / split / f"{i}.png")
    recipe = {
        "model": {"host": "efficientnet-lite0", "upsampler": upsampler, "schedule": {"total_steps": 2}},
        "data": {"dataset": "folder", "root": str(data), "crop_size": [64, 64], "batch_size": 2, "num_workers": 0},
        "trainer": {"accelerator": "cpu", "max_steps": 1, "enable_progress_bar": False},
    }
    file, run = folder / f"{upsampler}.yaml", folder / upsampler
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "resfu", "fit", "--recipe", str(file), "--run", str(run)], check=True)
    return run


def measure(*words: str) -> tuple[float, float]:
    """Seconds and most memory in GiB of a command."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "resfu", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for
    if process.returncode:
        raise SystemExit(f"resfu {' '.join(words)} ended with {process.returncode}.")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def main() -> None:
    """Measure every upsampler in every way and save the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photo")
    parser.add_argument("--small", action="store_true", help="a photo of 800 x 600, nothing is saved")
    small = parser.parse_args().small
    torch.set_num_threads(_THREADS)
    width, height = (800, 600) if small else (4000, 3000)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photo = folder / "photo.jpg"
        write_photo(photo, width, height)
        for upsampler in ("bilinear", "resfu"):
            run = train(folder, upsampler)
            for way, options in _WAYS.items():
                output = folder / "masks" / upsampler / way.replace(" ", "")
                place = ("--run", str(run), "--checkpoint", "last", "--output", str(output), "--threads", str(_THREADS))
                seconds, memory = measure("predict", str(photo), *place, *options)
                assert Image.open(output / "photo.png").size == (width, height)
                rows.append({"upsampler": upsampler, "way": way, "seconds": seconds, "peak_gib": memory})
                print(f"{upsampler:10} {way:20} {seconds:7.1f} s {memory:6.2f} GiB", flush=True)
    if not small:
        print(save("large-photo", 1, rows))


if __name__ == "__main__":
    main()
