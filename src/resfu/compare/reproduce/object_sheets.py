"""What the trained networks of Table XII find in the same images, side by side."""

from collections.abc import Mapping
from pathlib import Path

from resfu.compare.objects import make_object_pictures
from resfu.compare.pictures import choose
from resfu.compare.weights import load_host
from resfu.files.atomic import replacing
from resfu.hosts.panoptic_fpn import PanopticFPN
from resfu.training.detection_data import DetectionData
from resfu.visualize import Panel, draw_sheet


def save_object_sheet(checkpoints: Mapping[str, Path], path: Path, count: int = 4) -> None:
    """Draw a sheet: a row an image of the validation split, and what is labelled and found in it.

    Args:
        checkpoints: of `resfu fit`, by what to call them; all of one host, trained on the same data.
        path: the picture; its folder is made where it is not there.
        count: images, spread over the split.
    """
    hosts = {name: load_host(file) for name, file in checkpoints.items()}
    panoptic = isinstance(next(iter(hosts.values())), PanopticFPN)
    data = DetectionData.load_from_checkpoint(next(iter(checkpoints.values())), panoptic=panoptic)
    data.setup("validate")
    rows = []
    for item in make_object_pictures(hosts, data.evaluated, choose(len(data.evaluated), count)):
        image, labelled = item.references
        found = {name: layers[-1] for name, layers in item.results.items()}
        rows.append(
            [
                Panel(image.picture, item.name),
                Panel(labelled.picture, labelled.caption),
                *(Panel(layer.picture, f"{name}: {layer.caption}") for name, layer in found.items()),
            ]
        )
    with replacing(path) as draft:
        draw_sheet(rows, path.stem).save(draft)
