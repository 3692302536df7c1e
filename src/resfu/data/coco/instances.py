"""COCO 2017, instances: 80 kinds of things.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.
"""

from pathlib import Path
from typing import Any

from resfu.data.base import Sample, Transform
from resfu.data.coco.annotation_files import CocoDataset, is_trainable
from resfu.data.coco.as_written import Repairs, tidy_instance
from resfu.data.coco.base import InstanceDataset, object_target
from resfu.data.coco.segmentation import decode_mask
from resfu.data.image_files import Orientation
from resfu.data.unreadable import OnError


class CocoInstances(CocoDataset, InstanceDataset):
    """Images with the boxes and masks of their objects.

    Args:
        split: "train" or "val"; "train" leaves out crowds, empty boxes and images without a box.
        root: the folder with `train2017`, `val2017` and `annotations/instances_*2017.json`.
        transform: see `ObjectDataset`.
        on_error: "raise" or "skip", see `CocoDataset`.
        labelled_as: "shown" or "stored", see `CocoDataset`.

    Raises:
        ValueError: see `CocoDataset`; also naming the annotation of an invalid mask.
        FileNotFoundError: naming the first missing file.
    """

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        transform: Transform | None = None,
        on_error: OnError = "raise",
        labelled_as: Orientation = "shown",
    ) -> None:
        super().__init__("instances", split, root, transform, on_error, labelled_as)
        self._labels = {category.id: label for label, category in enumerate(self.things, start=1)}

    def ground_truth(self) -> dict[str, Any]:
        """The content of the annotation file, completed."""
        return self.content

    def tidy(self, annotation: dict[str, Any], where: str, repairs: Repairs, sizes: dict[Any, tuple[int, int]]) -> None:
        """Complete an annotation with `tidy_instance`."""
        tidy_instance(annotation, where, repairs, sizes, self._thing_ids)

    def labels(self, image: dict[str, Any], annotations: list[dict[str, Any]]) -> Sample:
        """The target of an image."""
        size = image["height"], image["width"]
        kept = [entry for entry in annotations if not self.training or is_trainable(entry, image)]
        masks = [decode_mask(entry["segmentation"], *size) for entry in kept]
        corners = [(x, y, x + width, y + height) for x, y, width, height in (entry["bbox"] for entry in kept)]
        labels = [self._labels[entry["category_id"]] for entry in kept]
        area, crowd = [entry["area"] for entry in kept], [entry["iscrowd"] for entry in kept]
        return {"target": object_target(corners, labels, masks, area, crowd, image["id"], size)}
