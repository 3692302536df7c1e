"""CPU speed and memory of the other upsamplers beside bilinear interpolation and their unfolded twins: `make bench`.

fp32, forward, everything in one process, the contenders in turn within every round. Each twin must give our numbers
before it is timed. Writes benchmarks/results/upsamplers.json.
"""

from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import results, unfolded
from resfu import CARAFE, FADE, SAPA, DySample, StackJBU, Upsampler
from resfu.evaluation.cost import Latency, multiply_accumulates, peak_memory, rounds

ROUNDS = 9
THREADS = 2
CHANNELS, LOW, RATIO = 256, 120, 2


@torch.no_grad()
def case(name: str, up: Upsampler, twin: Callable[..., Tensor], low: int = LOW, repeats: int = ROUNDS) -> dict:
    """Time an upsampler, its twin and bilinear interpolation on the same features."""
    torch.manual_seed(0)
    for parameter in up.parameters():
        parameter += 0.1 * torch.randn_like(parameter)  # kernels as made are near uniform, which would prove little
    up.eval()
    x = torch.randn(1, CHANNELS, low, low)
    H = RATIO * low
    inputs = [x, torch.randn(1, up.guidance_channels, H, H)] if up.guidance_channels else [x]

    def ours() -> Tensor:
        return up(*inputs, size=(H, H))

    def theirs() -> Tensor:
        return twin(up, *inputs)

    torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-4)
    contenders = {
        "bilinear": lambda: F.interpolate(x, size=(H, H), mode="bilinear", align_corners=False),
        "ours": ours,
        "twin": theirs,
    }
    times = {who: Latency.of(taken) for who, taken in rounds(contenders, repeats, settle=1).items()}
    output_bytes = 4 * CHANNELS * H * H
    return {
        "name": name,
        "channels": CHANNELS,
        "guidance_channels": up.guidance_channels,
        "low": low,
        "ratio": RATIO,
        "times": {who: asdict(time) for who, time in times.items()},
        "over_bilinear": times["ours"].median_ms / times["bilinear"].median_ms,
        "twin_over_ours": times["twin"].median_ms / times["ours"].median_ms,
        "peak_over_output": peak_memory(ours) / output_bytes,
        "twin_peak_over_output": peak_memory(theirs) / output_bytes,
        "multiply_accumulates": multiply_accumulates(up, *inputs, size=(H, H)),
    }


def table(rows: list[dict]) -> Table:
    size = f"{CHANNELS} channels, {LOW} x {LOW} -> {RATIO * LOW} x {RATIO * LOW}"
    shown = Table(title=f"{size}, fp32, {torch.get_num_threads()} threads, side by side in one process")
    shown.add_column("upsampler")
    for header in ("bilinear ms", "ours ms", "x bilinear", "twin / ours", "peak / output", "twin's", "GMAC"):
        shown.add_column(header, justify="right")
    for row in rows:
        medians = (row["times"][who]["median_ms"] for who in ("bilinear", "ours"))
        peaks = (row["peak_over_output"], row["twin_peak_over_output"])
        cells = [f"{number:.1f}" for number in (*medians, row["over_bilinear"], row["twin_over_ours"])]
        cells += [f"{number:.2f}" for number in (*peaks, row["multiply_accumulates"] / 1e9)]
        shown.add_row(row["name"], *cells)
    return shown


def main() -> None:
    torch.set_num_threads(THREADS)
    rows = [
        case("carafe", CARAFE(CHANNELS), unfolded.carafe),
        *(case(f"sapa, guidance {c}", SAPA(CHANNELS, c), unfolded.sapa) for c in (64, 256)),
        *(case(f"fade, guidance {c}", FADE(CHANNELS, c), unfolded.fade) for c in (64, 256)),
        case("stack-jbu", StackJBU(CHANNELS, steps=1), unfolded.stack_jbu, repeats=5),
        *(case(f"dysample, {s}", DySample(CHANNELS, style=s), unfolded.dysample) for s in ("lp", "pl")),
    ]
    console = Console()
    console.print(table(rows))
    console.print(f"written to {results.save('upsamplers', ROUNDS, rows)}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
