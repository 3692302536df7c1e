"""CPU speed and memory of the other upsamplers beside bilinear interpolation and plain PyTorch: `make bench`.

fp32, forward, everything in one process, the contenders in turn within every round. Plain forms ("unfold" and
"shifts", see `plain`) must give our numbers before they are timed. Writes benchmarks/results/upsamplers.json.

Unfolded maps of 3 GB are more than `keep_pages` keeps. For them, and what is measured beside them:

    MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 python -m benchmarks.upsamplers
"""

import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import plain, results
from resfu import CARAFE, FADE, SAPA, DySample, StackJBU, Upsampler, keep_pages
from resfu.evaluation.cost import Latency, multiply_accumulates, peak_memory, rounds

ROUNDS = 9
THREADS = 2
CHANNELS, LOW, RATIO = 256, 120, 2


@torch.no_grad()
def case(name: str, up: Upsampler, form: Callable[..., Tensor], low: int = LOW, repeats: int = ROUNDS) -> dict:
    """Time an upsampler, its plain forms and bilinear interpolation on the same features."""
    torch.manual_seed(0)
    for parameter in up.parameters():
        parameter += 0.1 * torch.randn_like(parameter)  # kernels as made are near uniform, which would prove little
    up.eval()
    x = torch.randn(1, CHANNELS, low, low)
    H = RATIO * low
    inputs = [x, torch.randn(1, up.guidance_channels, H, H)] if up.guidance_channels else [x]

    def ours() -> Tensor:
        return up(*inputs, size=(H, H))

    forms = {"unfold": partial(form, up, *inputs)}
    if form is not plain.dysample:
        forms["shifts"] = partial(form, up, *inputs, unfolded=False)
    for other in forms.values():
        torch.testing.assert_close(ours(), other(), rtol=1e-3, atol=1e-4)
    contenders = {
        "bilinear": lambda: F.interpolate(x, size=(H, H), mode="bilinear", align_corners=False),
        "ours": ours,
        **forms,
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
        **{f"{form}_over_ours": times[form].median_ms / times["ours"].median_ms for form in forms},
        "peak_over_output": peak_memory(ours) / output_bytes,
        **{f"{form}_peak_over_output": peak_memory(other) / output_bytes for form, other in forms.items()},
        "multiply_accumulates": multiply_accumulates(up, *inputs, size=(H, H)),
    }


def table(rows: list[dict]) -> Table:
    size = f"{CHANNELS} channels, {LOW} x {LOW} -> {RATIO * LOW} x {RATIO * LOW}"
    shown = Table(title=f"{size}, fp32, {torch.get_num_threads()} threads, side by side in one process")
    shown.add_column("upsampler")
    keys = ("over_bilinear", "unfold_over_ours", "shifts_over_ours")
    keys += ("peak_over_output", "unfold_peak_over_output", "shifts_peak_over_output")
    headers = ("x bilinear", "unfold / ours", "shifts / ours", "peak / output", "unfold's", "shifts'")
    for header in ("bilinear ms", "ours ms", *headers, "GMAC"):
        shown.add_column(header.replace(" ", "\n", 1), justify="right")
    for row in rows:
        medians = (row["times"][who]["median_ms"] for who in ("bilinear", "ours"))
        cells = [f"{number:.1f}" for number in medians]
        cells += [f"{row[key]:.2f}" if key in row else "" for key in keys]
        shown.add_row(row["name"], *cells, f"{row['multiply_accumulates'] / 1e9:.2f}")
    return shown


def main() -> None:
    torch.set_num_threads(THREADS)
    kept = keep_pages() or "MALLOC_TRIM_THRESHOLD_" in os.environ
    rows = [
        case("carafe", CARAFE(CHANNELS), plain.carafe),
        *(case(f"sapa, guidance {c}", SAPA(CHANNELS, c), plain.sapa) for c in (64, 256)),
        *(case(f"fade, guidance {c}", FADE(CHANNELS, c), plain.fade) for c in (64, 256)),
        case("stack-jbu", StackJBU(CHANNELS, steps=1), plain.stack_jbu, repeats=5),
        *(case(f"dysample, {s}", DySample(CHANNELS, style=s), plain.dysample) for s in ("lp", "pl")),
    ]
    console = Console()
    console.print(table(rows))
    file = results.save("upsamplers", ROUNDS, rows, pages_kept=kept)
    console.print(f"written to {file}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
