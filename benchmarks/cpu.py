"""CPU speed and memory of ReSFU beside bilinear interpolation and the published algorithm: `make bench`.

That is plain PyTorch, once unfolding the neighbourhoods as published, once adding shift after shift (`published`).

Everything is measured in one process, the contenders in turn within every round, so that a loaded machine slows all of
them alike. In each turn the second call counts, so that nobody pays for memory that another has given back. Writes
benchmarks/results/cpu.json.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from benchmarks import published, results
from resfu import ReSFU, keep_pages
from resfu.evaluation.cost import Latency, multiply_accumulates, peak_memory, rounds

ROUNDS = 9
THREADS = 2


def case(h: int, r: int, channels: int = 384, guidance: int = 32, train: bool = False, twin: bool = True) -> dict:
    torch.manual_seed(0)
    H = h * r
    up = ReSFU(channels, guidance).eval()
    x = torch.randn(1, channels, h, h, requires_grad=train)
    y = torch.randn(1, guidance, H, H, requires_grad=train)
    grad = torch.randn(1, channels, H, H) if train else None

    def step(run: Callable[[], torch.Tensor]) -> Callable[[], object]:
        return (lambda: run().backward(grad)) if train else run

    contenders = {
        "bilinear": step(lambda: F.interpolate(x, size=(H, H), mode="bilinear", align_corners=False)),
        "resfu": step(lambda: up(x, y)),
    }
    forms = {"published": partial(published.resfu, up, x, y)} if twin else {}
    if twin:
        forms["shifts"] = partial(published.resfu, up, x, y, unfolded=False)
    for name, form in forms.items():
        contenders[name] = step(form)
        with torch.no_grad():
            torch.testing.assert_close(up(x, y), form(), rtol=1e-3, atol=1e-4)
    with torch.set_grad_enabled(train):
        taken = rounds(contenders, ROUNDS if H <= 128 else 5, settle=1)
    times = {name: Latency.of(each) for name, each in taken.items()}
    row = {"ratio": r, "low": h, "channels": channels, "train": train}
    row["times"] = {name: asdict(time) for name, time in times.items()}
    row["over_bilinear"] = times["resfu"].median_ms / times["bilinear"].median_ms
    for name in forms:
        row[f"{name}_over_resfu"] = times[name].median_ms / times["resfu"].median_ms
    if not train:
        row["peak_over_output"] = peak_memory(lambda: up(x, y)) / (4 * channels * H * H)
        row["multiply_accumulates"] = multiply_accumulates(up, x, y)
    return row


def main() -> None:
    torch.set_num_threads(THREADS)
    kept = keep_pages()
    rows = [
        case(32, 4),
        case(32, 4, train=True),
        case(28, 16, twin=False),
        *(case(h, 4, channels=64, twin=False) for h in (16, 32, 64, 128)),
    ]
    table = Table(title="ReSFU on the CPU, fp32, 2 threads, side by side in one process")
    keys = ("published_over_resfu", "shifts_over_resfu", "peak_over_output")
    headers = ("published / resfu", "shifts / resfu", "peak / output")
    for name in ("case", "bilinear ms", "resfu ms", "x bilinear", *headers, "GMAC"):
        table.add_column(name.replace(" ", "\n", 1), justify="right")
    for row in rows:
        name = f"{row['channels']} ch {row['low']} x{row['ratio']}" + (" fwd+bwd" if row["train"] else "")
        cells = [f"{row['times'][m]['median_ms']:.1f}" for m in ("bilinear", "resfu")] + [f"{row['over_bilinear']:.1f}"]
        cells += [f"{row[key]:.2f}" if key in row else "" for key in keys]
        cells += [f"{row['multiply_accumulates'] / 1e9:.3f}" if "multiply_accumulates" in row else ""]
        table.add_row(name, *cells)
    Console().print(table)
    results.save("cpu", ROUNDS, rows, pages_kept=kept)


if __name__ == "__main__":
    main()
