"""The tables of docs/deployment.md from the JSON files: `python -m benchmarks.deployment_table`."""

import json
from collections.abc import Iterator

from benchmarks.results import FOLDER

RUNTIMES = ("ONNX Runtime", "OpenVINO", "ExecuTorch", "AOTInductor")


def rows(name: str) -> list[dict]:
    """The rows of a result."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["rows"]


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


if __name__ == "__main__":
    for name, table in (("deployment", matrix), ("deployment-speed", speed), ("deployment-int8", precisions)):
        print(*table(rows(name)), "", sep="\n")
