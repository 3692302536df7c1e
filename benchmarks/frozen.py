"""CPU speed and memory of the upsamplers of frozen encoders beside bilinear interpolation and their authors' forms.

All of a row are measured in one process that keeps its pages, in turn within every round; in each turn the second call
counts. The plain forms run once, since they take most of a minute. Medians, with the spread in the file.
`python -m benchmarks.frozen [NAME ...]` writes benchmarks/results/frozen.json, or frozen-NAME.json of the names;
`--small` takes small sizes for a quick look and writes nothing.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from benchmarks import frozen_plain, results
from resfu import create_upsampler, keep_pages
from resfu.evaluation.cost import Latency, multiply_accumulates, peak_memory, rounds

ROUNDS, THREADS = 7, 2
CHANNELS, LOW, HIGH = 384, 28, 448
SMALL = 64, 14, 112
PLAIN = {"naf": frozen_plain.naf, "anyup": frozen_plain.anyup}


def case(name: str, channels: int, low: int, high: int) -> dict:
    torch.manual_seed(0)
    up = create_upsampler(name, channels=channels).eval()
    x, image = torch.randn(1, channels, low, low), torch.randn(1, 3, high, high)
    contenders: dict[str, Callable[[], object]] = {
        "bilinear": lambda: F.interpolate(x, size=(high, high), mode="bilinear", align_corners=False),
        "ours": lambda: up(x, image),
    }
    taken = rounds(contenders, ROUNDS, settle=1)
    plain = PLAIN.get(name)
    if plain is not None:
        start = time.perf_counter()
        want = plain(up, x, image)
        taken["plain"] = [1000 * (time.perf_counter() - start)]
        torch.testing.assert_close(up(x, image), want, rtol=1e-3, atol=1e-4)
        del want
    times = {who: Latency.of(each) for who, each in taken.items()}
    row = {"name": name, "times": {who: asdict(time) for who, time in times.items()}}
    row["over_bilinear"] = times["ours"].median_ms / times["bilinear"].median_ms
    if plain is not None:
        row["plain_over_ours"] = times["plain"].median_ms / times["ours"].median_ms
    row["peak_over_output"] = peak_memory(lambda: up(x, image)) / (4 * channels * high**2)
    row["multiply_accumulates"] = multiply_accumulates(up, x, image)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--small", action="store_true", help="small sizes; nothing is written")
    options = parser.parse_args()
    sizes = SMALL if options.small else (CHANNELS, LOW, HIGH)
    torch.set_num_threads(THREADS)
    kept = keep_pages()
    console = Console()
    table = Table(
        title=f"{sizes[0]} channels, {sizes[1]} -> {sizes[2]}, image {sizes[2]}, fp32, {THREADS} threads, one process"
    )
    for header in ("name", "bilinear ms", "ours ms", "x bilinear", "plain / ours", "peak / output", "GMAC"):
        table.add_column(header, justify="right")
    rows = []
    with torch.no_grad():
        for name in options.names or ("naf", "anyup", "resfu-image"):
            row = case(name, *sizes)
            rows.append(row)
            table.add_row(
                name,
                *(f"{row['times'][who]['median_ms']:.0f}" for who in ("bilinear", "ours")),
                f"{row['over_bilinear']:.1f}",
                f"{row['plain_over_ours']:.1f}" if "plain_over_ours" in row else "",
                f"{row['peak_over_output']:.2f}",
                f"{row['multiply_accumulates'] / 1e9:.1f}",
            )
    console.print(table)
    if not options.small:
        file = results.save("-".join(["frozen", *options.names]), ROUNDS, rows, kept)
        console.print(f"written to {file}", soft_wrap=True, highlight=False)


def lines() -> list[str]:
    """The measured table of docs/pixel_features.md; `benchmarks.pages` writes it there."""
    rows = results.measured("frozen")
    if not rows:
        return []
    found = ["| | bilinear ms | ours ms | times bilinear | plain form / ours | peak / output |", "|:--|" + "--:|" * 5]
    for row in rows:
        times = [f"{row['times'][who]['median_ms']:.0f}" for who in ("bilinear", "ours")]
        plain = f"{row['plain_over_ours']:.1f}" if "plain_over_ours" in row else ""
        cells = [row["name"], *times, f"{row['over_bilinear']:.1f}", plain, f"{row['peak_over_output']:.2f}"]
        found.append("| " + " | ".join(cells) + " |")
    return found + results.where("frozen")


TABLES = {"frozen": lines}


if __name__ == "__main__":
    main()
