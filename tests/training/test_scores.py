import json

import pytest
import torch
from rich.console import Console

from resfu.evaluation.semantic import SemanticMetrics
from resfu.tasks.label_maps import LabelMapModule
from resfu.training.scores import Score, class_table, headline, number, plain

SCORES = LabelMapModule.scores


def test_rows_means_and_missing_values():
    nan = float("nan")
    metrics = {
        "iou": torch.tensor([50.0, nan]),
        "acc": torch.tensor([62.5, nan]),
        "boundary_iou": torch.tensor([33.333, nan]),
        "miou": 50.0,
        "macc": 62.5,
        "biou": 33.333,
        "aacc": 99.0,
    }
    console = Console(width=80, record=True, quiet=False)
    with console.capture() as capture:
        console.print(class_table(SCORES, metrics, ("sky", "road"), caption="of one image"))
    out = capture.get()
    rows = [line.replace("│", " ").split() for line in out.splitlines()]
    assert ["sky", "50.00", "62.50", "33.33"] in rows
    assert ["road", "-", "-", "-"] in rows
    assert ["mean", "50.00", "62.50", "33.33"] in rows
    assert "of one image" in out
    assert headline(SCORES, metrics) == {"miou": 50.0, "macc": 62.5, "aacc": 99.0, "biou": 33.333}
    assert headline(SCORES, {"macc": 1.0}) == {"macc": 1.0}  # what was measured


def test_a_score_that_requires_another_has_a_count():
    with pytest.raises(ValueError, match="'hd95' requires 'found': give counted_first"):
        Score("hd95", "HD95", requires="found")


def test_without_classes_there_is_a_row_a_score():
    scores = (Score("abs_rel", "AbsRel", unit="", decimals=4), Score("rmse", "RMSE", unit="m"), Score("silog", "SILog"))
    table = class_table(scores, {"abs_rel": 0.11234, "rmse": 2.0}, ())
    assert [list(column.cells) for column in table.columns] == [["AbsRel", "RMSE"], ["0.1123", "2.00"]]


def test_one_class_has_a_row_and_lists_of_one():
    metrics = SemanticMetrics(1)
    with pytest.warns(UserWarning, match="before the ``update``"):  # torchmetrics' own
        nothing = plain(metrics.compute())
    assert json.loads(json.dumps(nothing, allow_nan=False))["miou"] is None
    assert nothing["iou"] == [None]
    label = torch.zeros(1, 8, 8, dtype=torch.int64)
    metrics.update(label, label)
    found = metrics.compute()
    assert list(class_table(SCORES, found, ("sky",)).columns[1].cells) == ["100.00"]
    assert plain(found)["boundary_iou"] == [100]


def test_counts_stay_whole_and_a_score_may_have_no_mean():
    scores = (Score("missed", "missed", "missed_by_class", unit="organs"), Score("", "found", "found_by_class"))
    results = {"missed": 3, "missed_by_class": torch.tensor([1, 2]), "found_by_class": torch.tensor([4, 0])}
    table = class_table(scores, results, ("liver", "spleen"), "organ")
    assert [list(column.cells) for column in table.columns] == [["liver", "spleen"], ["1", "2"], ["4", "0"]]
    assert [column.footer for column in table.columns] == ["mean", "3", ""]
    assert table.columns[0].header == "organ"
    assert [number(value) for value in (None, float("nan"), 2, 2.0)] == ["-", "-", "2", "2.00"]
