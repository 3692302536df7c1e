"""Tables on terminals that are too narrow for them."""

import copy
import io

import pytest
from rich.console import Console
from rich.table import Table

from resfu.cli import main
from resfu.compare.narrow import print_table
from resfu.compare.run import _print_table


def printed(width, show):
    console = Console(width=width, record=True, file=io.StringIO())
    show(console)
    return console.export_text()


def parts_of(text):
    """What stands below the heading of every part."""
    return text.split("───\n")[1:] if "───\n" in text else text.split("─── \n")[1:]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_every_part_of_a_comparison_has_the_names_and_whole_numbers(width, results):
    results = copy.deepcopy(results)
    long = "resfu+alignment=semantic+guided_query=false"
    results["settings"]["upsamplers"].append(long)
    results["cost"][long] = results["cost"]["resfu"]
    results["runs"] += [{**run, "upsampler": long} for run in results["runs"] if run["upsampler"] == "resfu"]
    text = printed(width, lambda console: _print_table(results, console))
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    parts = parts_of(text)
    for part in parts:
        assert all(name in part for name in ("bilinear", "resfu", "resfu+alig"))
    for number in ("51.00", "60.50", "31.00", "1.235", "2.34", "12.3", "1.3", "45.6"):
        assert number in text
    assert len(parts) == {30: 6, 40: 3, 60: 2, 80: 1, 120: 1}[width]


def test_parts_repeat_every_column_of_names_and_title_and_caption_stand_once():
    table = Table("organ", "upsampler", title="above", caption="below")
    for heading in ("Dice", "HD95", "missed"):
        table.add_column(heading, no_wrap=True)
    table.add_row("left kidney", "bilinear", "80.50 ± 1.00", "12.30 ± 0.50", "0")
    text = printed(45, lambda console: print_table(console, table, names=2))
    assert text.count("left kidney") == text.count("bilinear") == 3
    assert text.count("above") == text.count("below") == 1
    assert "80.50 ± 1.00" in text
    assert "12.30 ± 0.50" in text
    assert printed(200, lambda console: print_table(console, table, names=2)).count("bilinear") == 1


@pytest.mark.parametrize("words", [["list"], ["list", "recipes"]])
def test_the_lists_have_whole_names(words, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert ("segformer-mit-b1_ade20k_re" if "recipes" in words else "bilinear") in out
