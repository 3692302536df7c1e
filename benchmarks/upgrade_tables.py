"""Write the measured tables of docs/your_network.md, from the JSON files in benchmarks/results.

python -m benchmarks.upgrade_tables
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks import upgrade_camvid_table
from benchmarks.results import FOLDER
from benchmarks.upgrade_matrix import OUT, markdown

PAGE = Path(__file__).parent.parent / "docs" / "your_network.md"
BLOCK = re.compile(r"^(<!-- table: (\w+) -->\n).*?(^<!-- end of table -->)$", re.MULTILINE | re.DOTALL)
_HEAD = 2  # lines


def matrix() -> list[str]:
    """Which upsampler works in which network."""
    return markdown(json.loads(OUT.read_text("utf-8"))["networks"])


def passes() -> list[str]:
    """What redirecting costs."""
    record = json.loads((FOLDER / "upgrade-overhead.json").read_text("utf-8"))
    lines = ["| SMP U-Net, 256 x 256 | ms | over the original |", "|:--|--:|--:|"]
    for row in record["rows"]:
        shown = f"{row['median_ms']:.4f}" if row["name"] == "calls" else f"{row['median_ms']:.1f}"
        ratio = f"{100 * row['ratio']:.3f} %" if row["name"] == "calls" else f"{row['ratio']:.3f}"
        lines.append(f"| {row['name']} | {shown} | {ratio} |")
    return lines


TABLES: dict[str, Callable[[], list[str]]] = {
    "matrix": matrix,
    "passes": passes,
    "camvid": lambda: upgrade_camvid_table.table(upgrade_camvid_table.read()),
    "starts": lambda: upgrade_camvid_table.starts(upgrade_camvid_table.read()),
}


def filled(page: str) -> str:
    """The page with its tables as the JSON files have them."""

    def block(found: re.Match[str]) -> str:
        lines = TABLES[found[2]]()
        shown = lines if len(lines) > _HEAD else ["Not measured yet."]
        return found[1] + "\n" + "\n".join(shown) + "\n\n" + found[3]

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
