"""Fill the measured tables of docs and README from the JSON files in benchmarks/results: `python -m benchmarks.pages`.

A table stands in its page between `<!-- table: NAME -->` and `<!-- end of table -->`. Nothing is measured here.
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import deployment_table, floor_table, frozen, large_tables, pixel_features, upgrade_tables
from benchmarks.evidence import table as evidence

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^(<!-- table: ([\w-]+) -->\n).*?(^<!-- end of table -->)$", re.MULTILINE | re.DOTALL)
Lines = Callable[[], list[str]]

# File, seen from docs/, to its tables, in the page's order.
TABLES: dict[str, dict[str, Lines]] = {
    "../README.md": evidence.SUMMARY,
    "deployment.md": deployment_table.TABLES,
    "performance.md": floor_table.TABLES,
    "evidence.md": evidence.TABLES,
    "large_images.md": large_tables.TABLES,
    "pixel_features.md": pixel_features.TABLES | frozen.TABLES,
    "your_network.md": upgrade_tables.TABLES,
}


def filled(text: str, tables: dict[str, Lines]) -> str:
    """The text of a page with its tables as the JSON files have them."""

    def block(found: re.Match[str]) -> str:
        lines = tables[found[2]]() or ["Not measured yet."]
        return found[1] + "\n" + "\n".join(lines) + "\n\n" + found[3]

    return BLOCK.sub(block, text)


if __name__ == "__main__":
    torch.set_num_threads(1)  # of the many small sums of the intervals: two beside another program wait for each other
    for page, tables in TABLES.items():
        (DOCS / page).write_text(filled((DOCS / page).read_text("utf-8"), tables), "utf-8")
