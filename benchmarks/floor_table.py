"""The tables of measured targets in docs/performance.md; `benchmarks.pages` writes them there."""

from collections.abc import Callable
from functools import partial

from benchmarks.half_precision import CASES, WHO
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


def growth() -> list[str]:
    """How `benchmarks.growth` found the time to grow with the pixels at x4, and to change with the ratio."""
    rows = measured("growth")
    if not rows:
        return []
    sizes, ratios = ([row for row in rows if row["what"] == what] for what in ("size", "ratio"))
    lines = ["| output at x4 | ms | ns a pixel | ratio to 256 x 256 | ms |", "|:--|--:|--:|--:|--:|"]
    for n in range(max(len(sizes), len(ratios))):
        cells = ["", "", ""]
        if n < len(sizes):
            row = sizes[n]
            cells = [f"{row['high']} x {row['high']}", f"{row['ms']:.0f}", f"{1e6 * row['ms'] / row['high'] ** 2:.0f}"]
        row = ratios[n]
        lines.append("| " + " | ".join([*cells, f"{row['high'] / row['low']:.2f}", f"{row['ms']:.0f}"]) + " |")
    return lines + where("growth")


def half_precision() -> list[str]:
    """What `benchmarks.half_precision` measured without the compiled kernels and with them."""
    rows = measured("half-precision")
    if not rows:
        return []
    lines = ["| | fp32 | autocast | autocast, forward + backward | bf16 | bf16, forward + backward |"]
    lines.append("|:--|" + "--:|" * 5)
    for row in rows:
        pairs = [[f"{row['times'][f'{case}, {who}']['median_ms']:.1f}" for who in WHO] for case in CASES[1:]]
        cells = [
            row["name"],
            f"{row['times']['fp32, kernels']['median_ms']:.1f}",
            *(" -> ".join(pair) for pair in pairs),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines + where("half-precision")


TABLES: dict[str, Callable[[], list[str]]] = {
    **{name: partial(targets, name) for name in ("floor", "floor-avx2")},
    "half-precision": half_precision,
    "growth": growth,
}
