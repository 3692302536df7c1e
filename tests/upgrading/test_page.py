"""docs/your_network.md says what was measured, and its examples are short."""

import json

import pytest

pytest.importorskip("segmentation_models_pytorch", reason="needs the dev group")

from benchmarks.pages import DOCS
from benchmarks.results import FOLDER
from benchmarks.upgrade_camvid import FURTHER
from benchmarks.upgrade_camvid_table import read, starts, table
from benchmarks.upgrade_matrix import OUT
from benchmarks.upgrade_networks import NETWORKS
from resfu import UPSAMPLERS
from tests.test_docs import FENCE


def test_every_upsampler_works_in_every_network_or_has_no_ratio_there():
    rows = json.loads(OUT.read_text(encoding="utf-8"))["networks"]
    assert list(rows) == list(NETWORKS)
    for name, cells in rows.items():
        assert cells["same"] is True, name
        assert cells["calls"] == len(NETWORKS[name].calls.split()), name
        counts = {upsampler: cells[upsampler] for upsampler in UPSAMPLERS}
        assert all(isinstance(count, int) for count in counts.values()), (name, counts)
        assert counts["resfu"] > 0, name


def test_redirecting_costs_less_than_two_percent():
    rows = {row["name"]: row for row in json.loads((FOLDER / "upgrade-overhead.json").read_text("utf-8"))["rows"]}
    assert rows["redirected"]["ratio"] < 1.02
    assert rows["calls"]["ratio"] < 0.02


def test_there_is_a_short_example_for_each_library():
    blocks = [block[1] for block in FENCE.finditer((DOCS / "your_network.md").read_text(encoding="utf-8"))]
    for library in ("torchvision", "transformers", "segmentation_models_pytorch", "monai", "timm"):
        assert any(f"from {library}" in block or f"import {library}" in block for block in blocks), library
    assert all(len(block.strip().splitlines()) < 15 for block in blocks)


def written(folder, variant, seed, values):
    scores = {step: {"miou": value, "biou": value / 2} for step, value in values.items()}
    record = {"network": "FPN", "variant": variant, "seed": seed, "scores": scores, "training_seconds": 60.0}
    (folder / f"{variant}-{seed}.json").write_text(json.dumps(record), encoding="utf-8")


def test_the_table_of_the_trainings(tmp_path):
    first, middle, last = FURTHER.measured
    for seed, shift in enumerate((0.0, 2.0)):
        written(tmp_path, "", seed, {500: 50 + shift})
        written(tmp_path, "its own", seed, {first: 50 + shift, middle: 52 + shift, last: 54 + shift})
        written(tmp_path, "resfu", seed, {first: 50 + shift, middle: 53 + shift, last: 56 + 2 * shift})
    written(tmp_path, "resfu, published", 0, {first: 20, middle: 50, last: 55})
    lines = table(read(tmp_path))
    assert lines[2] == "| FPN | its own | 2 | 51.0 / 25.5 | 51.0 / 25.5 | 53.0 / 26.5 | 55.0 / 27.5 |  | 60 |"
    assert lines[3].endswith("| 58.0 / 29.0 | +3.0 ± 1.4 / +1.5 ± 0.7 | 60 |")
    assert starts(read(tmp_path))[2:] == ["| FPN | 1 | +30.0 / +15.0 | +3.0 / +1.5 | +1.0 / +0.5 |"]
