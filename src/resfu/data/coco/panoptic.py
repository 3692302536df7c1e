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

_NAMED = 3  # at most this many files with wrong areas are named


class CocoPanoptic(CocoDataset, PanopticDataset):
    """Images with their segments of things and stuff.

    Args:
        split: "train" or "val"; "train" leaves crowds out of the target, and leaves out images without a box.
        root: the folder with `train2017`, `val2017`, and in `annotations` the files and folders `panoptic_*2017`.
        transform: see `ObjectDataset`.
        on_error: "raise" or "skip", see `CocoDataset`.
        labelled_as: "shown" or "stored", see `CocoDataset`.

    Raises:
        ValueError: see `CocoDataset`; at access, naming a PNG file that contradicts its segments.
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
        super().__init__("panoptic", split, root, transform, on_error, labelled_as)
        self._ids_folder = self.file.with_suffix("")
        self._areas = AreaCheck(self.file)
        check_files([self._ids_folder / self._annotations[image["id"]][0]["file_name"] for image in self.images])

    def tidy(self, annotation: dict[str, Any], where: str, repairs: Repairs, sizes: dict[Any, tuple[int, int]]) -> None:
        """Complete an annotation with `tidy_segments`."""
        tidy_segments(annotation, where, repairs, sizes, self._category_ids)

    def _complete(self, repairs: Repairs) -> None:
        super()._complete(repairs)
        numbers = Counter(annotation["image_id"] for annotation in self.content["annotations"])

        def check(image: dict[str, Any], where: str) -> None:
            number = numbers[image["id"]]
            if number > 1 or not (number or self.training):  # training leaves it out anyway: it has no box
                raise ValueError(f"image {image['id']} must have one annotation, not {number}.")

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
    """Warns if a segment's listed area is not its number of pixels, for the first few files only.

    PQ here counts pixels; COCO's own evaluation uses the listed areas of the labels.

    Args:
        file: that lists the areas.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._differing: set[Path] = set()

    def compare(self, path: Path, listed: Sequence[Mapping[str, Any]], counted: Sequence[Mapping[str, Any]]) -> None:
        """Compare the segments of an image.

        Args:
            path: of the PNG file of ids.
            listed: the segments in the annotation file; "area" may be missing.
            counted: the same segments, with the counted "area".
        """
        pairs = [(s["id"], s["area"], c["area"]) for s, c in zip(listed, counted, strict=True) if "area" in s]
        differing = [pair for pair in pairs if pair[1] != pair[2]]
        if not differing or path in self._differing or len(self._differing) == _NAMED:
            return
        self._differing.add(path)
        number, area, pixels = differing[0]
        rest = " Further files are not named." if len(self._differing) == _NAMED else ""
        warnings.warn(
            f"{path}: {self.file} lists wrong areas for {len(differing)} of {len(counted)} segments, such as {area} "
            f"for segment {number}, which has {pixels} pixels. PQ here counts the pixels; COCO's own evaluation uses "
            f"the listed areas, and its PQ differs.{rest}",
            stacklevel=2,
        )


def decode_ids(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The segment at each pixel, [H, W], from colours, [H, W, 3]: red + 256 green + 65536 blue."""
    return colours.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)
