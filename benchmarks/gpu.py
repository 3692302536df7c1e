"""GPU speed and memory of ReSFU and of reassembly, beside the floor and their peers: `python -m benchmarks.gpu`.

The floor is a plain fill of the output. Beside it: bilinear interpolation, DySample, the published algorithm in plain
PyTorch, and the reference under `torch.compile`. All take turns in one process. Writes benchmarks/results/gpu.json.
`--tiny` runs every line of it on small maps on the CPU, and writes nothing.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from benchmarks import published, results
from resfu import DySample, ReSFU
from resfu.evaluation.cost import Latency, peak_memory, rounds
from resfu.ops import reassemble

CASES = [
    # channels, low, ratio, batch, dtype, training, published twin
    (384, 32, 4, 16, torch.bfloat16, False, True),
    (384, 32, 4, 16, torch.bfloat16, True, True),
    (384, 28, 16, 1, torch.float32, False, False),
    (384, 28, 32, 1, torch.float32, False, False),
    (384, 28, 16, 1, torch.float32, True, False),
]


def case(
    device: str, C: int, h: int, r: int, B: int, dtype: torch.dtype, train: bool, twin: bool, repeats: int
) -> dict:
    torch.manual_seed(0)
    H = h * r

    def maps(channels: int, size: int) -> torch.Tensor:
        return torch.randn(B, channels, size, size, device=device, dtype=dtype)

    up, dysample = (module.to(device, dtype).eval() for module in (ReSFU(C, 32), DySample(C, scale_factor=r)))
    slow = ReSFU(C, 32, backend="reference").to(device, dtype).eval()
    compiled = torch.compile(slow)
    x, y = maps(C, h).requires_grad_(train), maps(32, H).requires_grad_(train)
    kernel = maps(9, H).softmax(1).requires_grad_(train)
    out = maps(C, H)

    def step(run: Callable[[], torch.Tensor], *inputs: torch.Tensor) -> Callable[[], object]:
        return (lambda: torch.autograd.grad(run(), inputs, out)) if train else run

    contenders = {
        "fill": lambda: out.clone().fill_(1.0) if train else out.fill_(1.0),
        "bilinear": step(lambda: F.interpolate(x, size=(H, H), mode="bilinear", align_corners=False), x),
        "reassemble": step(lambda: reassemble(x, kernel), x, kernel),
        "dysample": step(lambda: dysample(x), x),
        "resfu": step(lambda: up(x, y), x, y),
        "compiled reference": step(lambda: compiled(x, y), x, y),
    }
    if twin:
        contenders["published"] = step(lambda: published.resfu(up, x, y), x, y)
    with torch.set_grad_enabled(train):
        times = {name: Latency.of(each) for name, each in rounds(contenders, repeats, warmup=3).items()}
        peaks = {name: peak_memory(call, grad=train) for name, call in contenders.items()}
    floor = times["fill"].median_ms
    return {
        "channels": C, "low": h, "ratio": r, "batch": B, "dtype": str(dtype), "train": train,
        "times": {name: asdict(time) for name, time in times.items()},
        "over_fill": {name: time.median_ms / floor for name, time in times.items()},
        "peak_MiB": {name: peak / 2**20 for name, peak in peaks.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="small maps on the CPU, to see that every line runs")
    tiny = parser.parse_args().tiny
    rows = []
    for C, h, r, B, dtype, train, twin in CASES[:2] if tiny else CASES:
        if tiny:
            rows.append(case("cpu", 32, 4, r, 1, torch.float32, train, twin, 2))
        else:
            rows.append(case("cuda", C, h, r, B, dtype, train, twin, 20))
        row = rows[-1]
        title = " ".join(f"{key} {row[key]}" for key in ("channels", "low", "ratio", "batch", "dtype", "train"))
        table = Table("", "median ms", "quartiles", "x fill", "peak MiB", title=title)
        for name, time in row["times"].items():
            quartiles = f"{time['lower_quartile_ms']:.3f} to {time['upper_quartile_ms']:.3f}"
            numbers = f"{time['median_ms']:.3f}", quartiles, f"{row['over_fill'][name]:.1f}"
            table.add_row(name, *numbers, f"{row['peak_MiB'][name]:.0f}")
        Console().print(table)
    if not tiny:
        results.save("gpu", 20, rows)


if __name__ == "__main__":
    main()
