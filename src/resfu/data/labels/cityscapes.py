"""Cityscapes: street scenes of 50 cities, 19 classes, finely annotated.

Source: Cordts, Omran, Ramos, Rehfeld, Enzweiler, Benenson, Franke, Roth, Schiele, "The Cityscapes dataset for semantic
urban scene understanding", CVPR 2016.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torchvision.datasets import Cityscapes as Tables

from resfu.data.base import IGNORE_INDEX, Transform
from resfu.data.image_files import FilePair, ImageFileDataset, checked_pairs, data_folder, list_files, map_labels
from resfu.data.unreadable import OnError

SPLITS = ("train", "val", "test")
IMAGE_END, LABEL_END = "_leftImg8bit.png", "_gtFine_labelIds.png"

HOW_TO_GET = (
    "Get leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from the Cityscapes site and unpack both into one "
    f"folder: <root>/leftImg8bit/{{train,val,test}}/CITY/NAME{IMAGE_END} and "
    f"<root>/gtFine/{{train,val,test}}/CITY/NAME{LABEL_END}."
)

# The download holds the 34 ids of the annotation (0 to 33); 19 of them are evaluated.
TRAIN_IDS = sorted((entry for entry in Tables.classes if 0 <= entry.train_id < IGNORE_INDEX), key=lambda e: e.train_id)
TABLE = np.full(256, -1, dtype=np.int16)
TABLE[:34] = IGNORE_INDEX
TABLE[[entry.id for entry in TRAIN_IDS]] = [entry.train_id for entry in TRAIN_IDS]


class Cityscapes(ImageFileDataset):
    """Street scenes, 1024 x 2048, with 19 classes; all labels that are not evaluated become 255.

    Args:
        split: "train" (2,975 images), "val" (500) or "test" (1,525; its published labels are all ignored).
        root: the folder that holds `leftImg8bit` and `gtFine`.
        transform: see `SegmentationDataset`.
        on_error: "raise" or "skip", see `ImageFileDataset`.

    Raises:
        ValueError: for an unknown split or a missing root; at access for labels outside 0 to 33.
        FileNotFoundError: for missing folders or labels.
    """

    classes = tuple(entry.name for entry in TRAIN_IDS)
    palette: ClassVar[torch.Tensor] = torch.tensor([entry.color for entry in TRAIN_IDS], dtype=torch.uint8)

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        transform: Transform | None = None,
        on_error: OnError = "raise",
    ) -> None:
        folder = data_folder("cityscapes", split, SPLITS, root, HOW_TO_GET)
        super().__init__(_find_pairs(folder, split), transform, on_error)

    def to_class(self, stored: np.ndarray, path: Path) -> np.ndarray:
        """Map the annotated ids to the 19 classes, and all others to `ignore_index`."""
        return map_labels(stored, TABLE, path, "the labelIds of Cityscapes are 0 to 33.")


def _find_pairs(root: Path, split: str) -> list[FilePair]:
    images = root / "leftImg8bit" / split
    if not images.is_dir():
        raise FileNotFoundError(f"no folder {images}. {HOW_TO_GET}")
    cities = sorted(path for path in images.iterdir() if path.is_dir())
    files = [path for city in cities for path in list_files(city, (".png",), HOW_TO_GET)]
    if not files:
        raise FileNotFoundError(f"no city folder in {images}. {HOW_TO_GET}")
    labels = root / "gtFine" / split
    pairs = [FilePair(path, labels / path.parent.name / path.name.replace(IMAGE_END, LABEL_END)) for path in files]
    return checked_pairs(pairs, HOW_TO_GET)
