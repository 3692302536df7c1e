"""How the cost of ReSFU grows with the output, and over real ratios: `python -m benchmarks.growth`.

Forward, fp32, two threads, pages kept, 16 channels. The exponent is the slope of log(time) over log(pixels): 1 is
linear. `--largest N` ends at N x N pixels (default 1024; 2048 needs 8 GB). Writes benchmarks/results/growth.json.
"""

import argparse
import math

import torch
from rich.console import Console

from benchmarks import results
from resfu import ReSFU, keep_pages
from resfu.evaluation.cost import Latency, rounds

CHANNELS, GUIDANCE, ROUNDS = 16, 32, 5
RATIOS = (1, 1.5, 2, 2.5, 3, 4, 5.33, 8, 16)


@torch.no_grad()
def milliseconds(low: int, high: int) -> float:
    torch.manual_seed(0)
    up = ReSFU(CHANNELS, GUIDANCE).eval()
    x, y = torch.randn(1, CHANNELS, low, low), torch.randn(1, GUIDANCE, high, high)
    return Latency.of(rounds({"ours": lambda: up(x, y)}, ROUNDS, settle=1)["ours"]).median_ms


def exponent(rows: list[dict]) -> float:
    """The slope of a line through all points, log over log."""
    points = [(math.log(row["high"] ** 2), math.log(row["ms"])) for row in rows]
    x, y = (sum(each) / len(points) for each in zip(*points, strict=True))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=1024)
    largest = parser.parse_args().largest
    kept = keep_pages()
    torch.set_num_threads(2)
    console = Console()
    sizes = [64 << n for n in range(6) if 64 << n <= largest]
    rows = [{"what": "size", "low": high // 4, "high": high, "ms": milliseconds(high // 4, high)} for high in sizes]
    for row in rows:
        console.print(
            f"{row['low']:5} -> {row['high']:5}: {row['ms']:8.1f} ms, {1e6 * row['ms'] / row['high'] ** 2:.0f} ns/pixel"
        )
    found = exponent(rows)
    console.print(f"exponent {found:.2f}")
    for ratio in RATIOS:
        low = round(256 / ratio)
        rows.append({"what": "ratio", "low": low, "high": 256, "ms": milliseconds(low, 256)})
        console.print(f"ratio {256 / low:5.2f}: {rows[-1]['ms']:8.1f} ms")
    results.save("growth", ROUNDS, [{"what": "exponent", "value": found}, *rows], pages_kept=kept)


if __name__ == "__main__":
    main()
