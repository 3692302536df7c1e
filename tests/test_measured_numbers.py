"""The tables of README and docs say what the JSON files in benchmarks/results say."""

import json
import re
import statistics
from pathlib import Path

import pytest

from benchmarks.pages import BLOCK, DOCS, TABLES, filled
from resfu.compare.comparison import Comparison
from resfu.compare.summary import Spread

ROOT = Path(__file__).parent.parent
COMPARISONS = {
    "demo": "README.md",
    "scenes": "docs/evidence.md",
    "ct": "docs/evidence.md",
    "scenes-instances": "docs/evidence.md",
    "scenes-panoptic": "docs/evidence.md",
}


def results(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def rows(page):
    """The cells of every line of every table."""
    lines = (ROOT / page).read_text(encoding="utf-8").replace("*", "").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name):
    found = results(name)
    for upsampler, summary in found["summary"].items():
        runs = [run["metrics"] for run in found["runs"] if run["upsampler"] == upsampler]
        assert all(summary[key]["mean"] == pytest.approx(sum(run[key] for run in runs) / len(runs)) for key in summary)
        cells = [upsampler, *(str(Spread(tuple(run[key] for run in runs))) for key in summary)]
        assert any(row[: len(cells)] == cells for row in rows(COMPARISONS[name])), cells


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_settings_of_comparisons_are_those_of_today(name):
    found = results(name)
    given = {key: found["settings"][key] for key in ("model", "data", "trainer")}
    comparison = Comparison(*(found["settings"][key] for key in ("recipe", "upsamplers", "seeds")), given)
    if "task" in found:
        assert comparison.task.name == found["task"]
    settings = comparison.to_dict()
    for group, values in given.items():
        for key, value in values.items():
            inner = settings[group][key]
            assert value.items() <= inner.items() if isinstance(value, dict) else value == inner, key


def time(taken):
    return f"{taken['median_ms']:.1f} ({taken['lower_quartile_ms']:.1f} to {taken['upper_quartile_ms']:.1f})"


def test_speed_of_resfu():
    for row in results("cpu")["rows"]:
        case = f"{row['channels']} channels, {row['low']} → {row['low'] * row['ratio']}"
        case += ", forward + backward" if row["train"] else ""
        cells = [case, time(row["times"]["bilinear"]), time(row["times"]["resfu"]), f"{row['over_bilinear']:.1f}"]
        cells += [f"{row[key]:.1f}" if key in row else "" for key in ("published_over_resfu", "shifts_over_resfu")]
        assert any(shown[:6] == cells for shown in rows("docs/performance.md")), cells


def test_speed_of_the_others():
    for row in results("upsamplers")["rows"]:
        cells = [
            row["name"],
            time(row["times"]["ours"]),
            f"{row['over_bilinear']:.1f}",
            f"{row['unfold_over_ours']:.1f}",
        ]
        cells.append(f"{row['shifts_over_ours']:.1f}" if "shifts_over_ours" in row else "")
        assert any(shown[:5] == cells for shown in rows("docs/performance.md")), cells


def test_ratios_that_are_not_whole():
    measured = results("ratios")["rows"]
    for name in dict.fromkeys(row["name"] for row in measured):
        cells = [name]
        for train in (False, True):
            ratios = [r["real_over_whole"] for r in measured if (r["name"], r["train"]) == (name, train)]
            assert len(ratios) == 20
            assert max(ratios) <= 2
            cells += [f"{statistics.median(ratios):.2f}", f"{max(ratios):.2f}"]
        assert cells in rows("docs/performance.md"), cells


def test_denormal_numbers():
    text = " ".join((ROOT / "docs" / "performance.md").read_text(encoding="utf-8").split())
    untrained, certain = results("denormals")["rows"]
    times = [certain["times"][mode]["median_ms"] for mode in ("computed", "taken as 0")]
    assert f"where {certain['denormal weights']:.0%} of the weights".replace("%", " %") in text
    assert f"takes {certain['ratio']:.0f} times as long" in text
    assert "({:.0f} and {:.0f} ms), and the gradients are equal".format(*times) in text
    assert untrained["ratio"] == pytest.approx(1, abs=0.05)
    assert untrained["largest difference of gradients"] == certain["largest difference of gradients"] == 0


@pytest.mark.parametrize("page", TABLES)
def test_the_tables_of_pages_are_those_of_the_measurements(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert [block[2] for block in BLOCK.finditer(text)] == list(TABLES[page])
    assert filled(text, TABLES[page]) == text, "run python -m benchmarks.pages"


def test_speed_in_the_readme():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    first, second = (
        {row["name"]: row["reached"]["over_bilinear"]["value"] for row in results(name)["rows"]}
        for name in ("floor", "floor-avx2")
    )
    shown = {
        "ReSFU x16, 384 channels, 28 -> 448": "ReSFU x16 with 384 channels {:.1f} / {:.1f}",
        "ReSFU x4, 384 channels, 32 -> 128": "x4 {:.1f} / {:.1f}",
        "ReSFU x4, 64 channels, 32 -> 128": "x4 with 64 channels {:.0f} / {:.0f}",
        "ReSFU forward + backward, batch 8, 64 channels, 14 -> 112": "backward at x8 with 64 channels {:.0f} / {:.0f}",
        "CARAFE x2, 256 channels, 120 -> 240": "CARAFE x2 {:.1f} / {:.1f}",
        "Stack-JBU x2, 256 channels, 120 -> 240": "Stack-JBU x2 {:.1f} / {:.1f}",
    }
    for name, words in shown.items():
        assert words.format(first[name], second[name]) in text, name


def test_probes_in_the_readme():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    gains = []
    for of in results("pixel-features")["rows"]:
        if of["fits"]["pairs"] == "scales":
            mean = {
                row["name"]: [statistics.fmean(run[key] for run in row["runs"]) for key in ("miou", "biou")]
                for row in of["rows"]
            }
            bilinear = mean["bilinear"]
            gains.append({name: [a - b for a, b in zip(own, bilinear, strict=True)] for name, own in mean.items()})
    lite0, lite2 = gains
    (miou, biou), (other_miou, other_biou) = lite0["resfu-image"], lite2["resfu-image"]
    for words in (
        f"ahead of bilinear interpolation by {miou:.1f} mIoU and {biou:.1f} bIoU with EfficientNet-Lite0",
        f"and by {other_miou:.1f} and {other_biou:.1f} with Lite2",
        f"NAF by {lite0['naf+dim=64'][0]:.1f} and {lite2['naf+dim=64'][0]:.1f} mIoU",
        f"AnyUp by {lite0['anyup+dim=32'][0]:.1f} and {lite2['anyup+dim=32'][0]:.1f}",
    ):
        assert words in text
    assert all(each["stack-jbu+steps=4"][0] < 0 for each in gains)


def test_memory_of_large_images():
    table = {cells[0].strip("`"): cells[1:] for cells in rows("docs/pixel_features.md") if len(cells) == 4}
    for row in results("large-features")["rows"]:
        memory, seconds, times = table[row["upsampler"]]
        assert float(times) == pytest.approx(row["times_whole_call"], rel=0.01)
        if "refused" in row:
            needed = re.search(r"at least ([\d.]+) MB", row["refused"])
            assert memory == f"asks for {float(needed[1]):.0f} MB"
        else:
            assert (memory, seconds) == (f"{row['peak_mib']:,} MiB", f"{row['seconds']:,.0f}")
