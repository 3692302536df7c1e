"""Where the time of the x2 reassembly by PyTorch's operators goes: `python -m benchmarks.breakdown`.

That is what the CPU runs without Numba. fp32, 256 channels, 120 x 120 -> 240 x 240, 2 threads, contenders in turn
within every round; in each turn the second call counts. Writes benchmarks/results/breakdown.json, the source of the
numbers in docs/performance_kernels.md.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import results
from resfu import SAPA
from resfu.evaluation.cost import Latency, rounds
from resfu.ops import backends, reassemble
from resfu.ops.reassembly import cpu, tiles
from resfu.upsamplers import projection

ROUNDS = 9
THREADS = 2
CHANNELS, LOW = 256, 120
PARTS = {"_kernel": "gather weights", "_window": "gather windows", "_matmul": "products"}
STEPS = ((2, 2), (1, 4), (4, 2), (2, 4), (4, 4), (1, 8))


@contextmanager
def stopwatches(taken: dict[str, float]) -> Iterator[None]:
    """Add up the milliseconds that each part of the operation takes."""

    def timed(name: str, call: Callable) -> Callable:
        def run(*args):
            start = time.perf_counter()
            result = call(*args)
            taken[name] += 1000 * (time.perf_counter() - start)
            return result

        return run

    parts = {part: timed(name, getattr(cpu, part)) for part, name in PARTS.items()}
    scatter = timed("write the output", tiles.Tiles.scatter)
    with mock.patch.multiple(cpu, **parts), mock.patch.object(tiles.Tiles, "scatter", scatter):
        yield


def with_cells(rows: int, columns: int) -> tiles.Tiles:
    """Tiles of other cells than those that the operation takes at ratio 2."""
    with mock.patch.object(tiles, "_together", side_effect=(rows, columns)):
        return tiles.tiles.__wrapped__(2 * LOW, 2 * LOW, LOW, LOW, "coarse")


@torch.no_grad()
@mock.patch.object(backends, "_NUMBA_INSTALLED", False)
def main() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    x = torch.randn(1, CHANNELS, LOW, LOW)
    guidance = torch.randn(1, CHANNELS, 2 * LOW, 2 * LOW)
    apart = torch.randn(1, 25, 2 * LOW, 2 * LOW).softmax(1)
    together = apart.contiguous(memory_format=torch.channels_last)
    sapa = SAPA(CHANNELS, CHANNELS).eval()

    def run(weights: torch.Tensor = together) -> torch.Tensor:
        return reassemble(x, weights, neighbours="coarse")

    def unfolded() -> torch.Tensor:
        with mock.patch.object(projection, "_LARGE", float("inf")):
            return sapa(x, guidance)

    def tiled(rows: int, columns: int) -> Callable[[], torch.Tensor]:
        grid = with_cells(rows, columns)

        def call() -> torch.Tensor:
            with mock.patch.object(cpu, "tiles", return_value=grid):
                return run()

        torch.testing.assert_close(call(), run(), rtol=1e-4, atol=1e-5)
        return call

    torch.testing.assert_close(run(apart), run(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(unfolded(), sapa(x, guidance), rtol=1e-3, atol=1e-4)
    contenders = {
        "a fill of the output": lambda: torch.empty(1, CHANNELS, 2 * LOW, 2 * LOW).fill_(1.0),
        "bilinear": lambda: torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
        "reassemble": run,
        "reassemble, a pixel's weights apart in memory": lambda: run(apart),
        **{f"reassemble, tiles of {rows} x {columns} cells": tiled(rows, columns) for rows, columns in STEPS},
        "SAPA, guidance 256": lambda: sapa(x, guidance),
        "SAPA, guidance 256, GroupNorm not folded": unfolded,
    }
    times = {name: Latency.of(taken) for name, taken in rounds(contenders, ROUNDS, settle=1).items()}
    parts: dict[str, float] = defaultdict(float)
    run()
    with stopwatches(parts):
        for _ in range(ROUNDS):
            run()
    rows = [{"name": name, **asdict(latency)} for name, latency in times.items()]
    rows += [{"name": f"of reassemble: {name}", "mean_ms": taken / ROUNDS} for name, taken in parts.items()]
    table = Table("", "ms", "quartiles")
    for row in rows:
        quartiles = (
            f"{row['lower_quartile_ms']:.1f} to {row['upper_quartile_ms']:.1f}" if "median_ms" in row else "mean"
        )
        table.add_row(row["name"], f"{row.get('median_ms', row.get('mean_ms')):.1f}", quartiles)
    Console().print(table)
    results.save("breakdown", ROUNDS, rows)


if __name__ == "__main__":
    main()
