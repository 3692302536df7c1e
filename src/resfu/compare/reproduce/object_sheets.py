"""What the trained networks of Table XII find in the same images, side by side."""

from collections.abc import Mapping
from pathlib import Path

import torch

from resfu.data.base import Sample
from resfu.training.detection import DetectionTask
from resfu.training.detection_data import DetectionData
from resfu.training.object_files import draw_found
from resfu.visualize import Panel, Picture, draw_sheet
from resfu.visualize.objects import draw_instances, draw_panoptic


def save_object_sheet(checkpoints: Mapping[str, Path], path: Path, count: int = 4) -> None:
    """Draw a sheet: a row an image of the validation split, and what is labelled and found in it.

    Args:
        checkpoints: of `resfu fit`, by what to call them; all of one host, trained on the same data.
        path: the picture; its folder is made where it is not there.
        count: images, spread over the split.
    """
    tasks = {name: DetectionTask.load_from_checkpoint(file, pretrained=False) for name, file in checkpoints.items()}
    first = next(iter(tasks.values()))
    data = DetectionData.load_from_checkpoint(next(iter(checkpoints.values())), panoptic=first.panoptic)
    data.setup("validate")
    dataset = data.evaluated
    places = [round(place) for place in torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).tolist()]
    rows = []
    for item in (dataset[place] for place in places):
        picture = (item["image"] * 255).round().byte().permute(1, 2, 0).numpy()
        panels = [Panel(picture, item["name"]), Panel(_labelled(picture, item, first), "labelled")]
        for name, task in tasks.items():
            with torch.no_grad():
                found = task.eval()([item["image"].to(task.device)])[0]
            panels.append(Panel(draw_found(picture, found, task.categories), name))
        rows.append(panels)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(rows, path.stem).save(path)


def _labelled(picture: Picture, item: Sample, task: DetectionTask) -> Picture:
    target = item["target"]
    if "segments" in item:
        colours = [category.color for category in task.categories]
        return draw_panoptic(picture, item["ids"].numpy(), item["segments"], colours)
    words = [task.categories[label - 1].name for label in target["labels"].tolist()]
    return draw_instances(picture, target["masks"].bool().numpy(), words)
