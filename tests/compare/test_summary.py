import copy
import math

import pytest

from resfu.compare.summary import Spread, best, cells, headings, markdown, note, summarise
from resfu.tasks import TASKS

LABEL_MAPS = TASKS["label maps"]
MIOU = LABEL_MAPS.scores[0]


def test_spread_is_the_sample_standard_deviation():
    spread = Spread((50.0, 52.0, 57.0))
    assert spread.mean == pytest.approx(53.0)
    assert spread.deviation == pytest.approx(math.sqrt((9 + 1 + 16) / 2))
    assert str(spread) == "53.00 ± 3.61"
    assert Spread((41.5,)).deviation is None
    assert str(Spread((41.5,))) == "41.50"


def test_runs_are_gathered_by_upsampler(results):
    bilinear, resfu = summarise(results)
    assert bilinear.upsampler == "bilinear"
    assert bilinear.metrics["miou"].values == (50.0, 52.0)
    assert resfu.metrics["biou"].values == (40.0, 41.0)
    assert resfu.cost["parameters"] == 2_000_000


def test_a_row_stands_under_its_headings(results):
    row = dict(zip(headings(LABEL_MAPS), cells(summarise(results)[0]), strict=True))
    assert row["upsampler"] == "bilinear"
    assert row["mIoU"] == "51.00 ± 1.41"
    assert row["mAcc"] == "61.00 ± 1.41"
    assert row["bIoU"] == "31.00 ± 1.41"
    assert row["parameters (M)"] == "1.235"
    assert row["MACs (G)"] == "2.34"
    assert row["host (ms)"] == "12.3"
    assert row["upsampler (ms)"] == "1.3"
    assert row["peak (MB)"] == "45.6"


def test_best_is_marked_only_where_there_is_a_choice(results):
    rows = summarise(results)
    assert best(rows, MIOU) == {"resfu"}
    assert best(rows[:1], MIOU) == set()


def test_markdown_is_a_table_with_the_best_in_bold(results):
    lines = markdown(results).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == len(headings(LABEL_MAPS)) + 1
    assert "| bilinear | 51.00 ± 1.41 |" in lines[2]
    assert "| resfu | **60.50 ± 0.71** |" in lines[3]
    assert lines[-1] == note(results)


def test_the_note_says_how_many_seeds_and_what_size(results):
    assert "over 2 seeds" in note(results)
    assert "64 x 96" in note(results)
    single = copy.deepcopy(results)
    single["settings"]["seeds"] = [0]
    assert "one seed" in note(single)
