"""What became slower than the committed numbers: `make bench-compare`.

Measures `benchmarks.floor` again and compares its ratios with those of benchmarks/results/floor.json, on a processor
without AVX-512 those of floor-avx2.json. Ratios, since times belong to their machine. Ends with 1 where one became
worse by more than a tenth.
"""

import sys

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import floor, results
from resfu import keep_pages

TOLERATED = 1.1


def slower(before: list[dict], after: list[dict]) -> list[tuple[str, str, float, float]]:
    """(row, number, before, after) of all that became worse than tolerated; rows that only one has are passed over."""
    known = {row["name"]: row["reached"] for row in before}
    found = []
    for row in after:
        for key, each in row["reached"].items():
            old = known.get(row["name"], {}).get(key)
            if old is None:
                continue
            worse = old["value"] / each["value"] if key.endswith("_over_ours") else each["value"] / old["value"]
            if worse > TOLERATED:
                found.append((row["name"], key, old["value"], each["value"]))
    return found


def main() -> int:
    committed = results.record(floor.NAME)
    if not committed:
        sys.exit(
            f"{floor.NAME}.json is not there yet: run `python -m benchmarks.floor` on a quiet machine and commit it."
        )
    keep_pages()
    torch.set_num_threads(floor.THREADS)
    found = slower(committed["rows"], [floor.measure(make(), floor.ROUNDS) for make in floor.targets()])
    console = Console()
    console.print(f"committed on: {committed['machine']['processor']}, {committed['versions']['torch']}")
    if not found:
        console.print("nothing became slower than a tenth")
        return 0
    table = Table("", "what", "before", "now", title="slower than before")
    for name, key, old, new in found:
        table.add_row(name, key.replace("_", " "), f"{old:.2f}", f"{new:.2f}")
    console.print(table)
    return 1


if __name__ == "__main__":
    sys.exit(main())
