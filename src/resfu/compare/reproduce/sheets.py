"""Predictions of a table's trained networks for the same images, side by side."""

from collections.abc import Mapping
from pathlib import Path

from resfu.tasks import task_of
from resfu.tasks.loading import load_data, load_module
from resfu.tasks.pictures import choose
from resfu.visualize import Panel, save_sheet


def save_predictions(checkpoints: Mapping[str, Path], path: Path, count: int = 4) -> None:
    """Draw a sheet with a row per validation image: the image, its label and each network's prediction.

    Args:
        checkpoints: of `resfu fit`, by name; all of one host, trained on the same data.
        path: of the sheet; its folder is created if missing.
        count: number of images, spread over the split.
    """
    modules = {name: load_module(file) for name, file in checkpoints.items()}
    first = next(iter(checkpoints))
    data = load_data(checkpoints[first], modules[first])
    data.setup("validate")
    task = task_of(modules[first].hparams["host"], data.dataset)
    rows = []
    for item in task.pictures(modules, data, choose(len(data.evaluated), count)):
        image, labelled = item.references[:2]
        predicted = {name: views[-1] for name, views in item.results.items()}
        rows.append(
            [
                Panel(image.picture, item.name),
                Panel(labelled.picture, labelled.caption or labelled.words),
                *(Panel(view.picture, f"{name}: {view.caption or view.words}") for name, view in predicted.items()),
            ]
        )
    save_sheet(rows, path.stem, path)
