"""The tables of measured targets in docs/performance.md; `benchmarks.pages` writes them there."""

from collections.abc import Callable
from functools import partial

from benchmarks.results import measured, where

_WORDS = {
    "over_bilinear": "times bilinear",
    "published_over_ours": "published form / ours",
    "operators_over_ours": "PyTorch's operators / ours",
    "peak": "peak memory",
}


def targets(name: str) -> list[str]:
    """Every target with what `benchmarks.floor` measured and wrote into a file."""
    rows = measured(name)
    if not rows:
        return []
    lines = ["| | bilinear ms | ours ms | | target | measured |", "|:--|--:|--:|:--|--:|--:|"]
    for row in rows:
        times = [f"{row['times'][who]['median_ms']:.1f}" for who in ("bilinear", "ours")]
        cells = [row["name"], *times]
        for key, reached in row["reached"].items():
            least = "at least" if key.endswith("_over_ours") else "at most"
            missed = "" if reached["met"] else ", missed"
            lines.append(
                "| " + " | ".join([*cells, _WORDS[key], f"{least} {reached['target']:g}",
                                   f"{reached['value']:.2f}{missed}"]) + " |"
            )  # fmt: skip
            cells = ["", "", ""]
    return lines + where(name)


TABLES: dict[str, Callable[[], list[str]]] = {name: partial(targets, name) for name in ("floor", "floor-avx2")}
