"""Writing of the objects found in image files, in COCO's formats and as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from resfu.data.coco import Category
from resfu.evaluation.coco_results import PanopticResults, write_instance_results
from resfu.evaluation.instances import encode_masks
from resfu.files.atomic import replacing, write_json
from resfu.tasks.files import check_output
from resfu.tasks.writing import PredictionWriter
from resfu.visualize.objects import draw_instances, draw_panoptic

_SHOWN = 0.5  # score from which an object is drawn


class ObjectWriter(PredictionWriter):
    """Write the objects found in images.

    * `instances.json`: COCO's results, all of them;
    * `panoptic.json` and `panoptic/NAME.png`, of a panoptic host;
    * `pictures/NAME.png`: the objects with a score from 0.5, or the segments, over the image;
    * `images.json`: the names of images and categories by number. If all names are different numbers, as in COCO, they
      are the images' numbers; otherwise images are numbered from 1.

    Args:
        folder: folder for the files; created if needed.

    Raises:
        OSError: when the folder or a file cannot be written.
        ValueError: for several processes; at the end, if no image could be read.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self._results: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []

    def begin(self, trainer: Any, module: Any) -> None:
        """Make the folders, and number the images."""
        if trainer.world_size > 1:
            raise ValueError("objects are predicted in one process, as their files are one list: --trainer.devices 1.")
        self.make_folder("pictures")
        data = trainer.datamodule
        check_output(data.images, data.predicted.found, self.folder / "pictures", ".png")
        names: list[str] = data.predicted.names
        numbers = {int(name) for name in names if name.isdecimal()}
        counted = len(numbers) < len(names)
        self._numbers = {name: place if counted else int(name) for place, name in enumerate(names, start=1)}
        self._categories: list[Category] = module.categories
        self._panoptic = PanopticResults(self.folder / "panoptic", [category.id for category in self._categories])

    def write(self, batch: dict[str, Any], found: Any, module: Any) -> list[Path]:
        """Keep the results of a batch, and write its pictures."""
        files = []
        for name, image, objects in zip(batch["name"], batch["image"], found, strict=True):
            picture = (image.detach().cpu() * 255).round().byte().permute(1, 2, 0).numpy()
            self._images.append(
                {"id": self._numbers[name], "name": name, "height": picture.shape[0], "width": picture.shape[1]}
            )
            self._keep(name, objects)
            files.append(self.folder / "pictures" / f"{name}.png")
            with replacing(files[-1]) as draft:
                Image.fromarray(draw_found(picture, objects, self._categories)).save(draft)
        return files

    def finish(self) -> None:
        """Write the lists."""
        write_instance_results(self.folder / "instances.json", self._results)
        if self._panoptic.folder.is_dir():
            self._panoptic.save()
        listed = [{"id": c.id, "name": c.name, "isthing": int(c.isthing)} for c in self._categories]
        write_json(self.folder / "images.json", {"images": self._images, "categories": listed}, indent=None)

    def _keep(self, name: str, found: dict[str, Any]) -> None:
        ids = [category.id for category in self._categories]
        image_id, masks = self._numbers[name], encode_masks(found["masks"][:, 0] >= 0.5)
        for label, score, mask in zip(found["labels"].tolist(), found["scores"].tolist(), masks, strict=True):
            entry = {"image_id": image_id, "category_id": ids[label - 1], "segmentation": mask, "score": score}
            self._results.append(entry)
        if "panoptic" in found:
            self._panoptic.add(image_id, name, found["panoptic"]["ids"], found["panoptic"]["segments"])


def draw_found(picture: np.ndarray, found: dict[str, Any], categories: Sequence[Category]) -> np.ndarray:
    """Draw the objects that a host found over an image.

    Args:
        picture: uint8 [H, W, 3].
        found: the host's result for the image.
        categories: categories of things, then of stuff.

    Returns:
        uint8 [H, W, 3] with the panoptic segments if there are any, else with the objects with a score from 0.5.
    """
    if "panoptic" in found:
        segments = found["panoptic"]
        colours = [category.color for category in categories]
        return draw_panoptic(picture, segments["ids"].cpu().numpy(), segments["segments"], colours)
    shown = is_shown(found)
    masks = (found["masks"][shown, 0] >= 0.5).cpu().numpy()
    pairs = zip(found["labels"][shown].tolist(), found["scores"][shown].tolist(), strict=True)
    return draw_instances(picture, masks, [f"{categories[label - 1].name} {score:.2f}" for label, score in pairs])


def is_shown(found: dict[str, Any]) -> Tensor:
    """Which of the objects found in an image are drawn, bool [N]."""
    return found["scores"] >= _SHOWN
