"""The published numbers: against the paper's own lines, against the collected tables, and against one another."""

import csv
from collections import Counter
from pathlib import Path

import pytest
import torch

from resfu import UPSAMPLERS, create_upsampler
from resfu.evaluation.published import option_from, published_rows

COLLECTED = Path(__file__).parents[3] / "shared" / "spec" / "published"
HOSTS = {
    1: ["pspnet-resnet50", "pspnet-resnet101"],
    2: ["segmenter-vit-s", "segmenter-vit-l"],
    3: ["segformer-mit-b1", "segformer-mit-b5"],
    4: ["maskformer-swin-b", "maskformer-swin-l"],
    **{table: ["segmenter-vit-s", "segformer-mit-b1"] for table in (5, 6, 7)},
    **{table: ["segmenter-vit-s"] for table in (8, 9)},
    **{table: ["transunet-r50-vit-b16"] for table in (10, 11)},
    12: ["mask-rcnn-resnet50", "panoptic-fpn-resnet50"],
}
LINES = {1: 9, 2: 9, 3: 10, 4: 8, 5: 6, 6: 3, 7: 2, 8: 10, 9: 9, 10: 7, 11: 7, 12: 10}  # of each printed table


def row(table: int, label: str, host: str):
    (found,) = [each for each in published_rows([table], host) if each.label == label]
    return found


def test_every_line_of_every_table_is_there_once() -> None:
    counts = Counter((each.table, each.host) for each in published_rows())
    assert counts == {(table, host): LINES[table] for table, hosts in HOSTS.items() for host in hosts}
    keys = [(each.table, each.label, each.host) for each in published_rows()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("table", "label", "host", "metrics"),
    [
        (1, "resfu", "pspnet-resnet101", {"miou": 45.19, "macc": 56.29, "biou": 29.87, "params_m": 65.72}),
        (3, "indexnet", "segformer-mit-b1", {"miou": 41.79, "macc": 52.40, "biou": 25.45, "params_m": 26.32}),
        (5, "d", "segformer-mit-b1", {"miou": 42.91, "macc": 53.60, "biou": 27.43, "params_m": 13.79}),
        (7, "coarse", "segmenter-vit-s", {"miou": 46.80, "macc": 57.78, "biou": 29.70}),
        (9, "sapa", "segmenter-vit-s", {"flops_g": 33.28, "params_m": 22.09}),
        (11, "bilinear", "transunet-r50-vit-b16",
         {"rv": 88.86, "myo": 84.53, "lv": 95.73, "dice": 89.71, "hd95": 2.18}),
        (12, "carafe", "panoptic-fpn-resnet50",
         {"pq": 40.8, "pq_things": 47.7, "pq_stuff": 30.4, "sq": 78.2, "rq": 50.0}),
    ],
)  # fmt: skip
def test_lines_read_in_the_paper(table: int, label: str, host: str, metrics: dict[str, float]) -> None:
    assert row(table, label, host).metrics == metrics


def test_the_parts_of_a_table_can_be_asked_for() -> None:
    assert [each.host for each in published_rows([2, 9], "segmenter-vit-s", "fade")] == ["segmenter-vit-s"] * 2
    assert {each.dataset for each in published_rows([4, 10, 11, 12])} == {"ade20k", "synapse", "acdc", "coco"}
    with pytest.raises(ValueError, match=r"no published table 13; choose from 1, 2, .* 12"):
        published_rows([1, 13])


def test_tables_that_repeat_a_row_agree() -> None:
    full = row(2, "resfu", "segmenter-vit-s").metrics
    for table, label in ((5, "f"), (6, "c"), (8, "K=3"), (8, "D=32"), (8, "G=4")):
        assert full.items() <= row(table, label, "segmenter-vit-s").metrics.items()
    for each in published_rows([9]):
        assert each.metrics["params_m"] == row(2, each.label, each.host).metrics["params_m"]
    assert row(10, "resfu", "transunet-r50-vit-b16").metrics["dice"] == pytest.approx(
        sum(value for name, value in row(10, "resfu", "transunet-r50-vit-b16").metrics.items() if name[-1] != "5") / 9,
        abs=0.01,
    )


def test_the_options_are_those_of_the_upsamplers() -> None:
    with torch.device("meta"):
        for each in published_rows():
            assert each.upsampler in UPSAMPLERS
            create_upsampler(
                each.upsampler, channels=256, guidance_channels=64, scale_factor=2, **each.upsampler_options
            )
    assert row(5, "b", "segmenter-vit-s").upsampler_options == {"alignment": "semantic", "guided_query": False}
    assert row(8, "K=7", "segmenter-vit-s").upsampler_options == {"kernel_size": 7}
    styles = {(each.table, each.upsampler_options["style"]) for each in published_rows(upsampler="dysample")}
    assert styles == {(table, "lp" if table in (2, 9) else "pl") for table in (1, 2, 3, 4, 9, 10, 11, 12)}


def test_the_discrepancies() -> None:
    found = {(each.table, each.label, each.host, metric) for each in published_rows() for metric in each.misprints}
    assert found == {
        (1, "deconv", "pspnet-resnet101", "params_m"),
        (2, "bilinear", "segmenter-vit-l", "params_m"),
        (3, "deconv", "segformer-mit-b5", "params_m"),
        (5, "d", "segmenter-vit-s", "params_m"),
        (5, "e", "segmenter-vit-s", "params_m"),
    }
    unexplained = [(row.table, row.label, metric) for row in published_rows() for metric in row.unexplained]
    assert unexplained == [(9, "carafe", "flops_g"), (9, "fade", "flops_g")]


def test_an_option_is_a_key_and_a_value() -> None:
    assert option_from("style=pl") == ("style", "pl")
    assert option_from("groups=8") == ("groups", 8)
    assert option_from("gated=true") == ("gated", True)
    for word in ("style", "=pl", ""):
        with pytest.raises(ValueError, match="an option must be KEY=VALUE"):
            option_from(word)


@pytest.mark.skipif(not COLLECTED.is_dir(), reason="../shared is for development only")
def test_every_number_is_the_collected_one() -> None:
    """The collected tables have a column for each network where two stand side by side."""
    collected: Counter[float] = Counter()
    for file in sorted(COLLECTED.glob("*.csv")):
        with file.open(encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                words = [text for name, text in line.items() if name not in ("value", "table")]
                collected.update(float(text) for text in words if text.replace(".", "").isdigit())
    assert collected == Counter(value for each in published_rows() for value in each.metrics.values())
