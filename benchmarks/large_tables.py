"""The tables of docs/large_images.md, made of benchmarks/results/large-*.json.

    python -m benchmarks.large_tables

Each table stands in the page between `<!-- large-NAME -->` and `<!-- /large-NAME -->`.
"""

import json
import re
import statistics
from pathlib import Path

_ROOT = Path(__file__).parents[1]
PAGE = _ROOT / "docs" / "large_images.md"
NAMES = ("labels", "volumes", "bands", "classifier", "refine", "fitted")


def table(name: str) -> list[str]:
    """Lines of a table; none where nothing has been measured yet."""
    file = _ROOT / "benchmarks" / "results" / f"large-{name}.json"
    if not file.is_file():
        return []
    record = json.loads(file.read_text(encoding="utf-8"))
    rows, machine = record["rows"], record["machine"]
    lines = _scores(rows) if name in ("refine", "fitted") else _times(rows)
    where = ", ".join(str(value) for value in (*machine.values(), *record["versions"].values()) if value)
    return [*lines, "", f"Measured on: {where}; {record['rounds']} rounds."]


def _times(rows: list[dict]) -> list[str]:
    lines = ["| input | | seconds | peak MiB above the inputs | times faster |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        for n, (form, seconds) in enumerate(row["seconds"].items()):
            cells = [row["input"], form, f"{statistics.median(seconds):.2f}", f"{row['peak MiB'][form]:.0f}"]
            lines.append("| " + " | ".join([*cells, "" if n else f"{row['times faster']:.2f}"]) + " |")
    return lines


def _scores(rows: list[dict]) -> list[str]:
    ways = list(rows[0]["seconds an image"])
    lines = ["| reduced by | to | images | " + " | ".join(ways) + " |", "| --- " * (3 + len(ways)) + "|"]
    for row in rows:
        cells = [str(row["reduced by"]), row["to"], str(row["images"])]
        cells += [f"{row[way]['biou']:.1f} / {row[way]['miou']:.1f}" for way in ways]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Write the tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name in NAMES:
        begin, end = f"<!-- large-{name} -->", f"<!-- /large-{name} -->"
        body = "\n".join(["", "", *table(name), "", ""]) if table(name) else "\n"
        text = re.sub(f"{re.escape(begin)}.*{re.escape(end)}", lambda _, b=body, a=(begin, end): a[0] + b + a[1],
                      text, flags=re.DOTALL)  # fmt: skip
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
