"""COCO 2017, panoptic: 80 kinds of things and 53 of stuff.

Source: Kirillov et al., "Panoptic Segmentation", CVPR 2019.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resfu.data.base import Sample, Transform
from resfu.data.coco.annotation_files import CocoDataset, check_files
from resfu.data.coco.base import PanopticDataset, panoptic_labels
from resfu.data.image_files import Orientation, read_colours


class CocoPanoptic(CocoDataset, PanopticDataset):
    """Images with their segments of things and stuff.

    Args:
        split: "train" or "val". In "train" crowds are left out of the target, and images without a box altogether.
        root: the folder with `train2017`, `val2017`, and in `annotations` the files and folders `panoptic_*2017`.
        transform: see `ObjectDataset`.
        on_error: "raise" or "skip", see `CocoDataset`.
        labelled_as: "shown" or "stored", see `CocoDataset`.

    Raises:
        ValueError: see `CocoDataset`, and at access for segments that the PNG file contradicts, naming it.
        FileNotFoundError: naming the first file that is not there.
    """

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        transform: Transform | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        labelled_as: Orientation = "shown",
    ) -> None:
        super().__init__("panoptic", split, root, transform, on_error, labelled_as)
        self._ids_folder = self.file.with_suffix("")
        for image in self.images:
            if len(self._annotations.get(image["id"], [])) != 1:
                raise ValueError(f"{self.file} must hold one annotation of the image {image['id']}.")
        check_files([self._ids_folder / self._annotations[image["id"]][0]["file_name"] for image in self.images])

    def boxes(self, annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The segments."""
        return [segment for annotation in annotations for segment in annotation["segments_info"]]

    def labels(self, image: dict[str, Any], annotations: list[dict[str, Any]]) -> Sample:
        """The target and the segments of an image."""
        path = self._ids_folder / annotations[0]["file_name"]
        ids = decode_ids(read_colours(path))
        if ids.shape != (image["height"], image["width"]):
            raise ValueError(
                f"{path} is {ids.shape[0]} x {ids.shape[1]}, its image {image['height']} x {image['width']}."
            )
        try:
            return panoptic_labels(ids, annotations[0]["segments_info"], self.categories, image["id"], self.training)
        except ValueError as error:
            raise ValueError(f"{path} and {self.file} do not belong together: {error}") from error


def decode_ids(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The segment at each pixel, [H, W], from a picture, [H, W, 3]: red + 256 green + 65536 blue."""
    return colours.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)


def encode_ids(ids: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """The picture that `decode_ids` reads."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)
