import torch
from rich.console import Console

from resfu.training.class_table import class_table


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
