"""COCO 2017, panoptic: 80 kinds of things and 53 of stuff.

Source: Kirillov et al., "Panoptic Segmentation", CVPR 2019.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resfu.data.base import Sample, Transform
from resfu.data.coco.annotation_files import CocoDataset, check_files
from resfu.data.coco.as_written import Repairs, tidy_segments
from resfu.data.coco.base import PanopticDataset, panoptic_labels
from resfu.data.image_files import Orientation, read_colours
from resfu.data.unreadable import OnError, UnreadableFileError

_NAMED = 3  # files whose areas differ


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
        on_error: OnError = "raise",
        labelled_as: Orientation = "shown",
    ) -> None:
        super().__init__("panoptic", split, root, transform, on_error, labelled_as)
        self._ids_folder = self.file.with_suffix("")
        self._areas = AreaCheck(self.file)
        check_files([self._ids_folder / self._annotations[image["id"]][0]["file_name"] for image in self.images])

    def tidy(self, annotation: dict[str, Any], where: str, repairs: Repairs, sizes: dict[Any, tuple[int, int]]) -> None:
        """Complete the segments as the file has them, or say what is wrong with them."""
        tidy_segments(annotation, where, repairs, sizes, self._category_ids)

    def _complete(self, repairs: Repairs) -> None:
        super()._complete(repairs)
        numbers = Counter(annotation["image_id"] for annotation in self.content["annotations"])

        def check(image: dict[str, Any], where: str) -> None:
            number = numbers[image["id"]]
            if number > 1 or not (number or self.training):  # without a box it is left out of the training anyway
                raise ValueError(f"there must be one annotation of the image {image['id']}, not {number}.")

        self.content["images"] = repairs.kept("image", self.content["images"], check)

    def boxes(self, annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The segments."""
        return [segment for annotation in annotations for segment in annotation["segments_info"]]

    def labels(self, image: dict[str, Any], annotations: list[dict[str, Any]]) -> Sample:
        """The target and the segments of an image."""
        path = self._ids_folder / annotations[0]["file_name"]
        ids = decode_ids(read_colours(path))
        if ids.shape != (image["height"], image["width"]):
            raise UnreadableFileError(
                f"{path} is {ids.shape[0]} x {ids.shape[1]}, its image {image['height']} x {image['width']}."
            )
        try:
            labels = panoptic_labels(ids, annotations[0]["segments_info"], self.categories, image["id"], self.training)
        except ValueError as error:
            raise UnreadableFileError(f"{path} and {self.file} do not belong together: {error}") from error
        if not self.training:
            self._areas.compare(path, annotations[0]["segments_info"], labels["segments"])
        return labels


class AreaCheck:
    """Warns where a segment's listed area is not the number of its pixels, for the first files that it meets.

    PQ here counts pixels; COCO's own evaluation takes the listed area of a labelled segment.

    Args:
        file: that lists the areas.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._differing: set[Path] = set()

    def compare(self, path: Path, listed: Sequence[Mapping[str, Any]], counted: Sequence[Mapping[str, Any]]) -> None:
        """Compare the segments of an image.

        Args:
            path: of the picture of ids.
            listed: in the file, those without an "area" too.
            counted: the same segments, with the "area" of their pixels.
        """
        pairs = [(s["id"], s["area"], c["area"]) for s, c in zip(listed, counted, strict=True) if "area" in s]
        differing = [pair for pair in pairs if pair[1] != pair[2]]
        if not differing or path in self._differing or len(self._differing) == _NAMED:
            return
        self._differing.add(path)
        number, area, pixels = differing[0]
        rest = " Further files are not named." if len(self._differing) == _NAMED else ""
        warnings.warn(
            f"{path}: {self.file} lists other areas than there are pixels for {len(differing)} of {len(counted)} "
            f"segments, such as {area} for the segment {number} of {pixels} pixels. PQ counts the pixels; COCO's own "
            f"evaluation takes the listed areas, so that its PQ differs.{rest}",
            stacklevel=2,
        )


def decode_ids(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The segment at each pixel, [H, W], from a picture, [H, W, 3]: red + 256 green + 65536 blue."""
    return colours.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)
