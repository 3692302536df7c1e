"""`python -m benchmarks.deployment_speed`: ReSFU and CARAFE in each runtime, side by side with eager PyTorch.

Two threads each, pages kept, one image, sizes open. Writes benchmarks/results/deployment-speed.json after each case;
cases that this run does not measure stay there. The kernels that PyTorch loads ("numba", "cpu") and the compiled module
are what users of Python have; the files are those of `resfu.export`.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

import resfu
from benchmarks.results import measured, save
from resfu.deploy.export_runtimes import RUNTIMES
from resfu.evaluation.cost import Latency, rounds

ROUNDS, THREADS = 9, 2
CASES = {  # name to (upsampler, channels, low-resolution side, ratio)
    "resfu x4, 64 channels, 32 -> 128": ("resfu", 64, 32, 4),
    "resfu x4, 384 channels, 32 -> 128": ("resfu", 384, 32, 4),
    "carafe x2, 256 channels, 60 -> 120": ("carafe", 256, 60, 2),
}


def contenders(case: tuple, suffixes: list[str], folder: Path) -> dict[str, Callable[[], object]]:
    """Name to a call, for one upsampler."""
    name, channels, side, ratio = case
    torch.manual_seed(0)
    up = resfu.create_upsampler(name, channels=channels, guidance_channels=32, scale_factor=ratio).eval()
    maps = (torch.randn(1, channels, side, side), torch.randn(1, 32, ratio * side, ratio * side))[: 1 + up.guided]
    found: dict[str, Callable[[], object]] = {"eager": lambda: up(*maps)}
    if name == "resfu":
        plain = resfu.create_upsampler(name, channels=channels, guidance_channels=32, backend="cpu").eval()
        plain.load_state_dict(up.state_dict())
        found["eager, without numba"] = lambda: plain(*maps)
    compiled = torch.compile(up)
    found["torch.compile"] = lambda: compiled(*maps)
    for suffix in suffixes:
        path = resfu.export(up, maps, folder / f"{name}-{channels}{suffix}")
        run = RUNTIMES[suffix].load(path, THREADS)
        found[RUNTIMES[suffix].name] = lambda run=run: run(maps)
    return found


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtimes", nargs="*", choices=list(RUNTIMES), default=list(RUNTIMES))
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    options = parser.parse_args()
    resfu.keep_pages()
    torch.set_num_threads(THREADS)
    rows = {row["case"]: row for row in measured("deployment-speed")}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for case in options.cases:
            taken = rounds(contenders(CASES[case], options.runtimes, Path(folder)), ROUNDS, settle=2)
            times = {who: Latency.of(each) for who, each in taken.items()}
            rows[case] = {"case": case, "times": {who: asdict(time) for who, time in times.items()}}
            save("deployment-speed", ROUNDS, [rows[name] for name in CASES if name in rows], pages_kept=True)
            eager = times["eager"].median_ms
            for who, time in times.items():
                print(f"{case} | {who} | {time.median_ms:.1f} ms | {time.median_ms / eager:.2f} x eager", flush=True)


if __name__ == "__main__":
    main()
