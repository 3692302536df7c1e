"""What a real ratio costs beside the next whole one: `python -m benchmarks.ratios`, with `--tiny` in seconds.

Every upsampler that takes real ratios, with and without gradients, on 20 sizes. The next whole ratio means a larger
output, so that a ratio of costs below 1 is what arithmetic expects; the bound to keep is 2. Processor time of one
thread, both sizes in turn within every round, medians. It takes half an hour and writes benchmarks/results/ratios.json,
except with `--tiny`.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import results
from resfu import JBU, UPSAMPLERS, Upsampler, create_upsampler

ROUNDS = 5
CHANNELS, GUIDANCE = 64, 32
LEAST_SECONDS = 0.02  # of a turn: shorter calls are repeated
LOW = (32, 32)
SIZES = [
    *((LOW, (P, P)) for P in (33, 36, 40, 47, 48, 56, 63, 65, 72, 80, 95, 97, 113, 129, 150, 200, 500, 513)),
    ((17, 23), (68, 100)),  # whole along the rows alone
    ((64, 48), (301, 133)),
]
TINY = [((8, 8), (17, 17)), ((8, 6), (20, 31))]

Size = tuple[int, int]


def upsamplers() -> Iterator[tuple[str, Upsampler]]:
    """All that take real ratios: those with a name, and the single module of Stack-JBU."""
    for name, method in UPSAMPLERS.items():
        if method.ratios == "any":
            yield name, create_upsampler(name, channels=CHANNELS, guidance_channels=GUIDANCE)
    yield "jbu", JBU()


def call(up: Upsampler, low: Size, high: Size, train: bool) -> Callable[[], object]:
    torch.manual_seed(0)
    x = torch.randn(1, CHANNELS, *low, requires_grad=train)
    y = torch.randn(1, up.guidance_channels or GUIDANCE, *high, requires_grad=train)
    if train:
        grad = torch.randn(1, CHANNELS, *high)
        return lambda: up(x, y).backward(grad)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return up(x, y)

    return forward


def processor_time(run: Callable[[], object], times: int) -> float:
    """Milliseconds a call."""
    start = time.process_time()
    for _ in range(times):
        run()
    return 1000 * (time.process_time() - start) / times


def row(name: str, up: Upsampler, low: Size, high: Size, train: bool, rounds: int) -> dict:
    rows, columns = (-(-P // p) * p for P, p in zip(high, low, strict=True))
    runs = {"real": call(up, low, high, train), "whole": call(up, low, (rows, columns), train)}
    first = {which: processor_time(run, 2) for which, run in runs.items()}
    times = {which: max(1, math.ceil(1000 * LEAST_SECONDS / max(taken, 0.01))) for which, taken in first.items()}
    taken = {which: [] for which in runs}
    for _ in range(rounds if max(high) <= 256 else min(rounds, 3)):
        for which, run in runs.items():
            taken[which].append(processor_time(run, times[which]))
    real, whole = (statistics.median(taken[which]) for which in ("real", "whole"))
    found = {"name": name, "train": train, "low": low, "high": high, "whole": (rows, columns)}
    return {**found, "real_ms": real, "whole_ms": whole, "real_over_whole": real / whole}


def table(rows: list[dict]) -> Table:
    shown = Table(title="processor time at a real ratio / at the next whole one, fp32, one thread")
    shown.add_column("upsampler")
    for header in ("mode", "sizes", "median", "largest", "at"):
        shown.add_column(header, justify="right")
    for name, train in dict.fromkeys((row["name"], row["train"]) for row in rows):
        group = [row for row in rows if (row["name"], row["train"]) == (name, train)]
        worst = max(group, key=lambda row: row["real_over_whole"])
        middle = statistics.median(row["real_over_whole"] for row in group)
        at = " -> ".join("{} x {}".format(*worst[key]) for key in ("low", "high"))
        cells = (str(len(group)), f"{middle:.2f}", f"{worst['real_over_whole']:.2f}", at)
        shown.add_row(name, "forward + backward" if train else "forward", *cells)
    return shown


def main(tiny: bool) -> None:
    torch.set_num_threads(1)
    sizes, rounds = (TINY, 1) if tiny else (SIZES, ROUNDS)
    rows = [
        row(name, up.eval(), low, high, train, rounds)
        for name, up in upsamplers()
        for train in (False, True)
        for low, high in sizes
    ]
    console = Console()
    console.print(table(rows))
    if not tiny:
        console.print(f"written to {results.save('ratios', rounds, rows)}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main(tiny="--tiny" in sys.argv[1:])
