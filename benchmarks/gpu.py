"""GPU speed and memory beside the floor and the peers, side by side in one process: `python -m benchmarks.gpu`.

The floor is a plain fill of the output. Beside it: bilinear interpolation, DySample, the published algorithm in plain
PyTorch, and the reference under `torch.compile`. A turn is several calls in a row, so that launches overlap as they do
in a network; the graph rows replay a CUDA graph and show what launches cost. Writes benchmarks/results/gpu.json.
`--tune` chooses the tiles of the kernels, see `tune`. `--tiny` runs every line of it on small maps on the CPU (without
the graphs), and writes nothing.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import plain, published, results
from resfu import CARAFE, FADE, SAPA, DySample, ReSFU, StackJBU, Upsampler
from resfu.evaluation.cost import Latency, peak_memory, rounds
from resfu.ops import reassemble

Call = Callable[[], object]
RESFU = [
    # channels, low, ratio, batch, dtype, training, published twin
    (384, 32, 4, 16, torch.bfloat16, False, True),
    (384, 32, 4, 16, torch.bfloat16, True, True),
    (384, 28, 16, 1, torch.float32, False, False),
    (384, 28, 32, 1, torch.float32, False, False),
    (384, 28, 16, 1, torch.float32, True, False),
]
PEERS: dict[str, tuple[Callable[[int], Upsampler], Callable[..., Tensor]]] = {
    "carafe": (CARAFE, plain.carafe),
    "sapa": (lambda channels: SAPA(channels, channels), plain.sapa),
    "fade": (lambda channels: FADE(channels, channels), plain.fade),
    "stack-jbu": (lambda channels: StackJBU(channels, steps=1), plain.stack_jbu),
}


def resfu_case(C: int, h: int, r: int, B: int, dtype: torch.dtype, train: bool, twin: bool, repeats: int) -> dict:
    """ReSFU, its hot operation and its peers at one size."""
    H = h * r

    def maps(channels: int, size: int) -> Tensor:
        return torch.randn(B, channels, size, size, dtype=dtype)

    up, dysample = (module.to(dtype).eval() for module in (ReSFU(C, 32), DySample(C, scale_factor=r)))
    slow = ReSFU(C, 32, backend="reference").to(dtype).eval()
    compiled = torch.compile(slow)
    x, y = maps(C, h).requires_grad_(train), maps(32, H).requires_grad_(train)
    scores = maps(9, H).requires_grad_(train)
    out = maps(C, H)

    def step(run: Callable[[], Tensor], *inputs: Tensor) -> Call:
        return (lambda: torch.autograd.grad(run(), inputs, out)) if train else run

    contenders = {
        "fill": lambda: out.fill_(1.0),
        "bilinear": step(lambda: F.interpolate(x, size=(H, H), mode="bilinear", align_corners=False), x),
        "reassemble": step(lambda: reassemble(x, scores, softmax=True, mask=True), x, scores),
        "dysample": step(lambda: dysample(x), x),
        "resfu": step(lambda: up(x, y), x, y),
        "compiled reference": step(lambda: compiled(x, y), x, y),
    }
    if twin:
        contenders["published"] = step(lambda: published.resfu(up, x, y), x, y)
    with torch.set_grad_enabled(train):
        if x.is_cuda and not train:
            contenders["resfu, graph"] = replayed(contenders["resfu"])
        measured = measure(contenders, x, train, repeats)
    return {"name": "resfu", "channels": C, "low": h, "ratio": r, "batch": B, "dtype": str(dtype), "train": train} | (
        measured
    )


@torch.no_grad()
def peer_case(name: str, C: int, h: int, B: int, dtype: torch.dtype, repeats: int) -> dict:
    """Another upsampler beside its own equations in plain PyTorch, x2."""
    make, twin = PEERS[name]
    up = make(C).to(dtype).eval()
    H = 2 * h
    x, out = torch.randn(B, C, h, h, dtype=dtype), torch.empty(B, C, H, H, dtype=dtype)
    inputs = [x, torch.randn(B, up.guidance_channels, H, H, dtype=dtype)] if up.guidance_channels else [x]
    contenders = {
        "fill": lambda: out.fill_(1.0),
        "bilinear": lambda: F.interpolate(x, size=(H, H), mode="bilinear", align_corners=False),
        name: lambda: up(*inputs, size=(H, H)),
        "published": lambda: twin(up, *inputs),
    }
    if x.is_cuda:
        contenders[f"{name}, graph"] = replayed(contenders[name])
    measured = measure(contenders, x, False, repeats)
    return {"name": name, "channels": C, "low": h, "ratio": 2, "batch": B, "dtype": str(dtype), "train": False} | (
        measured
    )


def measure(contenders: dict[str, Call], x: Tensor, train: bool, repeats: int, calls: int = 10) -> dict:
    """Time of a call and its peak memory, for each."""
    calls = calls if x.is_cuda else 1

    def turn(call: Call) -> Call:
        def run() -> None:
            for _ in range(calls):
                call()

        return run

    taken = rounds({name: turn(call) for name, call in contenders.items()}, repeats, warmup=3)
    times = {name: Latency.of([ms / calls for ms in each]) for name, each in taken.items()}
    # The tensor says on which device to look.
    peaks = {name: peak_memory(lambda _, call=call: call(), x, grad=train) for name, call in contenders.items()}
    floor = times["fill"].median_ms
    return {
        "times": {name: asdict(time) for name, time in times.items()},
        "over_fill": {name: time.median_ms / floor for name, time in times.items()},
        "peak_MiB": {name: peak / 2**20 for name, peak in peaks.items()},
    }


def replayed(call: Call) -> Call:
    """The call as a CUDA graph."""
    for _ in range(3):
        call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def table(row: dict) -> Table:
    title = " ".join(f"{key} {row[key]}" for key in ("name", "channels", "low", "ratio", "batch", "dtype", "train"))
    shown = Table("", "median ms", "quartiles", "x fill", "peak MiB", title=title)
    for name, time in row["times"].items():
        quartiles = f"{time['lower_quartile_ms']:.3f} to {time['upper_quartile_ms']:.3f}"
        numbers = f"{time['median_ms']:.3f}", quartiles, f"{row['over_fill'][name]:.1f}"
        shown.add_row(name, *numbers, f"{row['peak_MiB'][name]:.0f}")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="small maps on the CPU, to see that every line runs")
    parser.add_argument("--tune", action="store_true", help="measure the kernels' tiles instead, and write the fastest")
    arguments = parser.parse_args()
    tiny = arguments.tiny
    torch.set_default_device("cpu" if tiny else "cuda")
    torch.manual_seed(0)
    if arguments.tune:
        from benchmarks.tune import tune  # needs Triton's tiles alone

        tune(tiny)
        return
    rows = []
    for C, h, r, B, dtype, train, twin in RESFU[:2] if tiny else RESFU:
        size = (32, 4, r, 1, torch.float32) if tiny else (C, h, r, B, dtype)
        rows.append(resfu_case(*size, train, twin, 2 if tiny else 20))
        Console().print(table(rows[-1]))
    for name in PEERS:
        size = (32, 8, 1, torch.float32) if tiny else (256, 120, 4, torch.bfloat16)
        rows.append(peer_case(name, *size, 2 if tiny else 20))
        Console().print(table(rows[-1]))
    if not tiny:
        results.save("gpu", 20, rows)


if __name__ == "__main__":
    main()
