"""The measured tables of docs/large_images.md; `benchmarks.pages` writes them there."""

import statistics
from collections.abc import Callable
from functools import partial

from benchmarks.results import measured, where

NAMES = ("labels", "volumes", "photo", "bands", "classifier", "refine", "fitted")


def table(name: str) -> list[str]:
    """Lines of a table; none where nothing has been measured yet."""
    file = f"large-{name}"
    rows = measured(file)
    if not rows:
        return []
    lines = {"refine": _scores, "fitted": _scores, "photo": _commands}.get(name, _times)
    return lines(rows) + where(file)


def _times(rows: list[dict]) -> list[str]:
    lines = ["| input | | seconds | peak MiB above the inputs | times faster |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        for n, (form, seconds) in enumerate(row["seconds"].items()):
            cells = [row["input"], form, f"{statistics.median(seconds):.2f}", f"{row['peak MiB'][form]:.0f}"]
            lines.append("| " + " | ".join([*cells, "" if n else f"{row['times faster']:.2f}"]) + " |")
    return lines


def _commands(rows: list[dict]) -> list[str]:
    lines = ["| upsampler | the photo is seen | seconds | peak GiB |", "| --- | --- | --- | --- |"]
    for row in rows:
        lines.append(f"| {row['upsampler']} | {row['way']} | {row['seconds']:.0f} | {row['peak_gib']:.2f} |")
    return lines


def _scores(rows: list[dict]) -> list[str]:
    ways = list(rows[0]["seconds an image"])
    lines = ["| reduced by | to | images | " + " | ".join(ways) + " |", "| --- " * (3 + len(ways)) + "|"]
    for row in rows:
        cells = [str(row["reduced by"]), row["to"], str(row["images"])]
        cells += [f"{row[way]['biou']:.1f} / {row[way]['miou']:.1f}" for way in ways]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


TABLES: dict[str, Callable[[], list[str]]] = {f"large-{name}": partial(table, name) for name in NAMES}
