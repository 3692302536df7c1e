"""ADE20K: 150 classes of indoor and outdoor scenes, the scene parsing benchmark (ADEChallengeData2016).

Source: Zhou, Zhao, Puig, Fidler, Barriuso, Torralba, "Scene parsing through ADE20K dataset", CVPR 2017.
"""

import csv
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from resfu.data.base import IGNORE_INDEX, Transform
from resfu.data.image_files import FilePair, ImageFileDataset, checked_pairs, data_folder, list_files, map_labels
from resfu.data.labels.ade20k_classes import CLASSES
from resfu.data.unreadable import OnError

FOLDERS = {"train": "training", "val": "validation"}
NAMES_FILE = "objectInfo150.txt"

HOW_TO_GET = (
    "Get ADEChallengeData2016.zip from the MIT scene parsing benchmark and give its folder: "
    "<root>/images/{training,validation}/NAME.jpg and <root>/annotations/{training,validation}/NAME.png, with the "
    "labels 1 to 150 and 0 for unlabelled."
)

# "Reduce zero label": unlabelled (0) is ignored, and the classes shift down by one.
TABLE = np.full(256, -1, dtype=np.int16)
TABLE[0] = TABLE[255] = IGNORE_INDEX
TABLE[1:151] = np.arange(150)


class ADE20K(ImageFileDataset):
    """Scenes with 150 classes; unlabelled (0) becomes 255, stored label k becomes class k - 1.

    Args:
        split: "train" (20,210 images) or "val" (2,000).
        root: the folder ADEChallengeData2016. If it holds objectInfo150.txt, `classes` are the first synonyms in that
            file; otherwise built-in names.
        transform: see `SegmentationDataset`.
        on_error: "raise" or "skip", see `ImageFileDataset`.

    Raises:
        ValueError: for an unknown split, a missing root or a wrong class list; at access for labels outside 0 to 150.
        FileNotFoundError: for missing folders or labels.
    """

    classes = tuple(name for name, _ in CLASSES)
    palette: ClassVar[torch.Tensor] = torch.tensor([colour for _, colour in CLASSES], dtype=torch.uint8)

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        transform: Transform | None = None,
        on_error: OnError = "raise",
    ) -> None:
        folder = data_folder("ade20k", split, tuple(FOLDERS), root, HOW_TO_GET)
        labels = folder / "annotations" / FOLDERS[split]
        images = list_files(folder / "images" / FOLDERS[split], (".jpg",), HOW_TO_GET)
        pairs = checked_pairs([FilePair(path, labels / f"{path.stem}.png") for path in images], HOW_TO_GET)
        super().__init__(pairs, transform, on_error)
        if (folder / NAMES_FILE).is_file():
            self.classes = read_names(folder / NAMES_FILE)  # pyright: ignore[reportAttributeAccessIssue]

    def to_class(self, stored: np.ndarray, path: Path) -> np.ndarray:
        """Turn the stored labels 1 to 150 into the classes 0 to 149, and 0 into ignored."""
        return map_labels(stored, TABLE, path, "ADE20K has 1 to 150, and 0 or 255 for unlabelled.")


def read_names(path: Path) -> tuple[str, ...]:
    """Read the class names.

    Args:
        path: objectInfo150.txt, a tab-separated table with the columns Idx and Name; a name may list synonyms.

    Returns:
        The first synonym of each class, in the order of Idx.

    Raises:
        ValueError: for a table without 150 classes, numbered from 1.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = {row.get("Idx"): row.get("Name") or "" for row in csv.DictReader(file, delimiter="\t")}
    if set(names) != {str(number) for number in range(1, 151)}:
        raise ValueError(
            f"{path} must have the columns Idx and Name with the rows 1 to 150, got {len(names)}. Use the "
            "benchmark's own file, or remove it to use the built-in names."
        )
    return tuple(names[str(number)].split(",")[0].strip() for number in range(1, 151))
