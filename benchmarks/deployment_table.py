"""The measured tables of docs/deployment.md; `benchmarks.pages` writes them there."""

from collections.abc import Callable, Iterator

from benchmarks.results import measured, where

RUNTIMES = ("ONNX Runtime", "OpenVINO", "ExecuTorch", "AOTInductor")


def matrix(found: list[dict]) -> Iterator[str]:
    """Module by runtime: the largest difference from PyTorch at three sizes that the export did not see."""
    yield f"| module | {' | '.join(RUNTIMES)} |"
    yield "|:--|" + "--:|" * len(RUNTIMES)
    cells = {(row["module"], row["runtime"]): row for row in found}
    for module in dict.fromkeys(row["module"] for row in found):
        line = [_difference(cells.get((module, runtime))) for runtime in RUNTIMES]
        yield f"| {module} | {' | '.join(line)} |"


def speed(found: list[dict]) -> Iterator[str]:
    """Median milliseconds of each runtime."""
    names = list(dict.fromkeys(name for row in found for name in row["times"]))
    yield f"| ms (times eager) | {' | '.join(names)} |"
    yield "|:--|" + "--:|" * len(names)
    for row in found:
        eager = row["times"]["eager"]["median_ms"]
        line = [_time(row["times"].get(name), eager) for name in names]
        yield f"| {row['case']} | {' | '.join(line)} |"


def precisions(found: list[dict]) -> Iterator[str]:
    """Quality, size and time of trained networks in 32, 16 and 8 bits."""
    yield "| network | file | mIoU | bIoU | MB | ms |"
    yield "|:--|:--|--:|--:|--:|--:|"
    for row in found:
        for who, quality in row["quality"].items():
            megabytes, taken = row["megabytes"].get(who, ""), row["times"].get(who)
            milliseconds = f"{taken['median_ms']:.1f}" if taken else ""
            scores = f"{quality['miou']:.2f} | {quality['biou']:.2f}"
            yield f"| {row['run']} | {who} | {scores} | {megabytes} | {milliseconds} |"


def _difference(row: dict | None) -> str:
    if row is None:
        return "not run"
    return "refused" if "refused" in row else f"{max(row['differences']):.0e}"


def _time(taken: dict | None, eager: float) -> str:
    return "" if taken is None else f"{taken['median_ms']:.1f} ({taken['median_ms'] / eager:.2f})"


def _table(name: str, lines: Callable[[list[dict]], Iterator[str]]) -> list[str]:
    rows = measured(name)
    return [*lines(rows), *where(name)] if rows else []


TABLES: dict[str, Callable[[], list[str]]] = {
    "deployment": lambda: _table("deployment", matrix),
    "deployment-speed": lambda: _table("deployment-speed", speed),
    "deployment-int8": lambda: _table("deployment-int8", precisions),
}
