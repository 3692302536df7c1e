"""A plain folder of photos and label maps: your own data, without a line of code."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from resfu.data.base import IGNORE_INDEX, Transform
from resfu.data.class_list import EXAMPLE, FILE, read_classes
from resfu.data.image_files import (
    PHOTO_SUFFIXES,
    FilePair,
    ImageFileDataset,
    checked_pairs,
    data_folder,
    list_files,
    map_labels,
    read_label,
)
from resfu.data.unreadable import OnError, UnreadableFileError

SPLITS = ("train", "val", "test")

HOW_TO_ARRANGE = (
    "A folder of your own data holds images/{train,val,test}/NAME.jpg (.png, .tif and others) and "
    "labels/{train,val,test}/NAME.png, or {train,val,test}/images and {train,val,test}/labels; the labels are class "
    f"numbers, {IGNORE_INDEX} is ignored. {EXAMPLE}."
)


class LabelFolder(ImageFileDataset):
    """Photos and label maps in a folder, with the classes of its classes.txt.

    Args:
        split: "train", "val" or "test".
        root: the folder, with classes.txt and either images/SPLIT and labels/SPLIT, or SPLIT/images and SPLIT/labels.
        transform: see `SegmentationDataset`.
        on_error: "raise" or "skip", see `ImageFileDataset`.

    Raises:
        ValueError: for an unknown split, a missing root, an invalid line in classes.txt, two images of one name, or
            training labels of two classes that are all 0 or 255; at access for labels that are not a class, and for a
            label map of another size than its image.
        FileNotFoundError: for missing folders, labels or classes.txt.
    """

    classes = ()
    palette: ClassVar[Tensor] = torch.zeros(0, 3, dtype=torch.uint8)

    @classmethod
    def describe(cls, root: str | Path | None, options: Mapping[str, Any]) -> tuple[tuple[str, ...], Tensor]:
        """Read the names and colours of the classes from classes.txt."""
        return read_classes(root)

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        transform: Transform | None = None,
        on_error: OnError = "raise",
    ) -> None:
        folder = data_folder("folder", split, SPLITS, root, HOW_TO_ARRANGE)
        self.classes, self.palette = read_classes(folder)  # pyright: ignore[reportAttributeAccessIssue]
        self._list = folder / FILE
        table = np.full(256, -1, dtype=np.int16)
        table[: self.num_classes], table[IGNORE_INDEX] = np.arange(self.num_classes), IGNORE_INDEX
        self._table = table
        super().__init__(_find_pairs(folder, split), transform, on_error)
        if split == "train" and self.num_classes == 2:
            self._check_not_white()

    def _check_not_white(self) -> None:
        """Refuse masks that are black and white: 255 is ignored, so that nothing of the second class is left."""
        white = False
        for pair in self.pairs:
            try:
                found = np.unique(read_label(pair.label)).tolist()
            except UnreadableFileError:
                continue
            white |= IGNORE_INDEX in found
            if set(found) - {0, IGNORE_INDEX}:
                return
        if white:
            raise ValueError(
                f"all training labels are 0 or {IGNORE_INDEX}, as in {self.pairs[0].label}, and {IGNORE_INDEX} is "
                f"ignored: no pixel has the class {self.classes[1]!r}. Write 1 for it."
            )

    def to_class(self, stored: np.ndarray, path: Path) -> np.ndarray:
        """Reject labels that are not a class."""
        count = self.num_classes
        known = f"{self._list} lists {count} classes, 0 to {count - 1}, and {IGNORE_INDEX} is ignored."
        return map_labels(stored, self._table, path, known)


def _find_pairs(root: Path, split: str) -> list[FilePair]:
    by_split = (root / split / "images").is_dir()
    images, labels = (root / split / kind if by_split else root / kind / split for kind in ("images", "labels"))
    files = list_files(images, PHOTO_SUFFIXES, HOW_TO_ARRANGE)
    twice = [name for name, count in Counter(path.stem for path in files).items() if count > 1]
    if twice:
        raise ValueError(f"{images} has several images called {twice[0]}, which would share a label: rename them.")
    stored = {path.stem: path for path in labels.glob("*.[pP][nN][gG]")}
    pairs = [FilePair(path, stored.get(path.stem, labels / f"{path.stem}.png")) for path in files]
    return checked_pairs(pairs, HOW_TO_ARRANGE)
