import json

import pytest
import torch
from rich.console import Console

from resfu.evaluation.semantic import SemanticMetrics
from resfu.training.class_table import class_table, plain_metrics


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
        console.print(class_table(metrics, ("sky", "road")))
    rows = [line.replace("│", " ").split() for line in capture.get().splitlines()]
    assert ["sky", "50.00", "62.50", "33.33"] in rows
    assert ["road", "-", "-", "-"] in rows
    assert ["mean", "50.00", "62.50", "33.33"] in rows
    assert ["pixels", "right:", "99.00", "%"] in rows


def test_one_class_has_a_row_and_lists_of_one():
    metrics = SemanticMetrics(1)
    with pytest.warns(UserWarning, match="before the ``update``"):  # torchmetrics' own
        nothing = plain_metrics(metrics.compute())
    assert json.loads(json.dumps(nothing, allow_nan=False))["miou"] is None
    assert nothing["iou"] == [None]
    label = torch.zeros(1, 8, 8, dtype=torch.int64)
    metrics.update(label, label)
    found = metrics.compute()
    assert list(class_table(found, ("sky",)).columns[1].cells) == ["100.00"]
    assert plain_metrics(found)["boundary_iou"] == [100]
