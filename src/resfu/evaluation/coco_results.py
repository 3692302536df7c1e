"""Result files for COCO's servers and tools."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resfu.files.atomic import replacing, write_json


def write_instance_results(path: str | Path, results: Sequence[Mapping[str, Any]]) -> Path:
    """Write results of instance segmentation.

    Args:
        path: a .json file; its folder is created if needed.
        results: "image_id", "category_id", "segmentation" and "score" each, from `InstanceMetrics.results`.

    Returns:
        The path.
    """
    file = Path(path)
    write_json(file, list(results), indent=None)
    return file


class PanopticResults:
    """Panoptic results: a folder with a PNG file per image, and a JSON file of the same name beside it.

    Args:
        folder: the folder for the PNG files; the list is written to this path with ".json".
        category_ids: each class's id in the annotation file, things first.
    """

    def __init__(self, folder: str | Path, category_ids: Sequence[int]) -> None:
        self.folder = Path(folder)
        self.category_ids = list(category_ids)
        self._annotations: list[dict[str, Any]] = []

    def add(
        self, image_id: int, name: str, ids: Tensor | NDArray[np.integer[Any]], segments: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write the PNG file of an image.

        Args:
            image_id: id of the image in the annotation file.
            name: the image's file name without its suffix, which is "name" in a dataset's samples.
            ids: integer [H, W], the segment at each pixel, 0 for void, below 2^24.
            segments: "id" and "category_id", an index into `category_ids`, of each segment.

        Raises:
            ValueError: for ids that do not fit into three bytes.
        """
        array = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else ids
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < 2**24:
            raise ValueError(f"ids must be 0 to 2^24 - 1, got {array.min()} to {array.max()}.")
        wide = array.astype(np.int64)
        colours = np.stack([wide & 255, wide >> 8 & 255, wide >> 16], axis=-1).astype(np.uint8)
        with replacing(self.folder / f"{name}.png") as draft:
            Image.fromarray(colours).save(draft)
        listed = [{"id": entry["id"], "category_id": self.category_ids[entry["category_id"]]} for entry in segments]
        self._annotations.append({"image_id": image_id, "file_name": f"{name}.png", "segments_info": listed})

    def save(self) -> Path:
        """Write the list of all added images, and return its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder.with_name(f"{self.folder.name}.json")
        write_json(file, {"annotations": self._annotations}, indent=None)
        return file
