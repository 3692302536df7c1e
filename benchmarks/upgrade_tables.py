"""The measured tables of docs/your_network.md; `benchmarks.pages` writes them there."""

import json
from collections.abc import Callable

from benchmarks import upgrade_camvid_table
from benchmarks.results import measured
from benchmarks.upgrade_matrix import OUT, markdown

_HEAD = 2  # lines


def matrix() -> list[str]:
    """Which upsampler works in which network."""
    return markdown(json.loads(OUT.read_text("utf-8"))["networks"])


def passes() -> list[str]:
    """What redirecting costs."""
    lines = ["| SMP U-Net, 256 x 256 | ms | over the original |", "|:--|--:|--:|"]
    for row in measured("upgrade-overhead"):
        shown = f"{row['median_ms']:.4f}" if row["name"] == "calls" else f"{row['median_ms']:.1f}"
        ratio = f"{100 * row['ratio']:.3f} %" if row["name"] == "calls" else f"{row['ratio']:.3f}"
        lines.append(f"| {row['name']} | {shown} | {ratio} |")
    return lines


def _rows(lines: list[str]) -> list[str]:
    """A table, or nothing where it has a head alone."""
    return lines if len(lines) > _HEAD else []


TABLES: dict[str, Callable[[], list[str]]] = {
    "matrix": matrix,
    "passes": passes,
    "camvid": lambda: _rows(upgrade_camvid_table.table(upgrade_camvid_table.read())),
    "starts": lambda: _rows(upgrade_camvid_table.starts(upgrade_camvid_table.read())),
}
