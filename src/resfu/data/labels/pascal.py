"""Pascal VOC 2012 with 21 classes, and Pascal Context with 59 or 60.

Sources: Everingham, Eslami, Van Gool, Williams, Winn, Zisserman, "The Pascal visual object classes challenge: a
retrospective", IJCV 111, 2015; Hariharan, Arbelaez, Bourdev, Maji, Malik, "Semantic contours from inverse detectors",
ICCV 2011 (the augmented training split); Mottaghi, Chen, Liu, Cho, Lee, Fidler, Urtasun, Yuille, "The role of context
for object detection and semantic segmentation in the wild", CVPR 2014.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from resfu.data.base import IGNORE_INDEX, Transform
from resfu.data.image_files import FilePair, ImageFileDataset, checked_pairs, data_folder, listed_names, map_labels
from resfu.data.palette import voc_palette
from resfu.data.unreadable import OnError

VOC_SPLITS = ("train", "val", "trainval", "trainaug")
CONTEXT_SPLITS = ("train", "val")

VOC_HOW_TO_GET = (
    "Get VOCtrainval_11-May-2012.tar from the Pascal VOC site and give its folder VOCdevkit/VOC2012: "
    "<root>/JPEGImages/NAME.jpg, <root>/SegmentationClass/NAME.png and "
    "<root>/ImageSets/Segmentation/{train,val,trainval}.txt. The split trainaug also needs "
    "<root>/SegmentationClassAug/NAME.png, the SBD labels as PNG files, and ImageSets/Segmentation/trainaug.txt."
)
CONTEXT_HOW_TO_GET = (
    "Get Pascal VOC 2010 and the labels of Pascal Context (trainval_merged.json, made into PNG files by the Detail "
    "API) and give the folder VOCdevkit/VOC2010: <root>/JPEGImages/NAME.jpg, <root>/SegmentationClassContext/NAME.png, "
    "with the labels 1 to 59 and 0 for background, and <root>/ImageSets/SegmentationContext/{train,val}.txt."
)


class PascalVOC(ImageFileDataset):
    """Photos with background and 20 classes of objects; the border around objects (255) is ignored.

    Args:
        split: "train" (1,464 images), "val" (1,449), "trainval", or "trainaug": the 10,582 images that the literature
            trains on. Its labels come from `SegmentationClassAug`, or from `SegmentationClass` if missing there.
        root: the folder VOCdevkit/VOC2012.
        transform: see `SegmentationDataset`.
        on_error: "raise" or "skip", see `ImageFileDataset`.

    Raises:
        ValueError: for an unknown split or a missing root; at access for labels other than 0 to 20 and 255.
        FileNotFoundError: for missing lists, images or labels.
    """

    classes = (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    )  # fmt: skip
    palette: ClassVar[torch.Tensor] = voc_palette(21)
    table: ClassVar[np.ndarray] = np.concatenate([np.arange(21), np.full(235, -1)]).astype(np.int16)
    table[255] = IGNORE_INDEX

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        transform: Transform | None = None,
        on_error: OnError = "raise",
    ) -> None:
        folder = data_folder("voc", split, VOC_SPLITS, root, VOC_HOW_TO_GET)
        names = _read_list(folder / "ImageSets" / "Segmentation" / f"{split}.txt", VOC_HOW_TO_GET)
        labels = [folder / "SegmentationClass" / f"{name}.png" for name in names]
        if split == "trainaug":
            augmented = [folder / "SegmentationClassAug" / path.name for path in labels]
            labels = [new if new.is_file() else old for new, old in zip(augmented, labels, strict=True)]
        super().__init__(_pairs(folder, names, labels, VOC_HOW_TO_GET), transform, on_error)

    def to_class(self, stored: np.ndarray, path: Path) -> np.ndarray:
        """Reject labels that Pascal VOC does not have."""
        return map_labels(stored, self.table, path, "Pascal VOC has 0 to 20, and 255 for borders.")


class PascalContext(ImageFileDataset):
    """Densely labelled photos with 59 classes; background (0) becomes 255, stored label k becomes class k - 1.

    The data define no colours; these follow Pascal VOC's rule for 60 classes.

    Args:
        split: "train" (4,998 images) or "val" (5,105).
        root: the folder VOCdevkit/VOC2010.
        transform: see `SegmentationDataset`.
        on_error: "raise" or "skip", see `ImageFileDataset`.

    Raises:
        ValueError: for an unknown split or a missing root; at access for labels other than 0 to 59 and 255.
        FileNotFoundError: for missing lists, images or labels.
    """

    classes = (
        "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle", "building",
        "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup", "curtain", "dog", "door",
        "fence", "floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light", "motorbike", "mountain",
        "mouse", "person", "plate", "platform", "pottedplant", "road", "rock", "sheep", "shelves", "sidewalk", "sign",
        "sky", "snow", "sofa", "table", "track", "train", "tree", "truck", "tvmonitor", "wall", "water", "window",
        "wood",
    )  # fmt: skip
    palette: ClassVar[torch.Tensor] = voc_palette(60)[1:]
    table: ClassVar[np.ndarray] = np.concatenate([[IGNORE_INDEX], np.arange(59), np.full(196, -1)]).astype(np.int16)
    table[255] = IGNORE_INDEX

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        transform: Transform | None = None,
        on_error: OnError = "raise",
    ) -> None:
        folder = data_folder("pascal-context", split, CONTEXT_SPLITS, root, CONTEXT_HOW_TO_GET)
        names = _read_list(folder / "ImageSets" / "SegmentationContext" / f"{split}.txt", CONTEXT_HOW_TO_GET)
        labels = [folder / "SegmentationClassContext" / f"{name}.png" for name in names]
        super().__init__(_pairs(folder, names, labels, CONTEXT_HOW_TO_GET), transform, on_error)

    def to_class(self, stored: np.ndarray, path: Path) -> np.ndarray:
        """Map stored labels to classes from 0, and labels without a class to `ignore_index`."""
        return map_labels(stored, self.table, path, "Pascal Context has 0 to 59, and 255 for ignored.")


class PascalContext60(PascalContext):
    """`PascalContext` with the background as class 0, before the 59 others."""

    classes = ("background", *PascalContext.classes)
    palette: ClassVar[torch.Tensor] = voc_palette(60)
    table: ClassVar[np.ndarray] = np.concatenate([np.arange(60), np.full(196, -1)]).astype(np.int16)
    table[255] = IGNORE_INDEX


def _read_list(path: Path, how_to_get: str) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"no list {path}. {how_to_get}")
    names = listed_names(path)
    if not names:
        raise FileNotFoundError(f"the list {path} names no image. {how_to_get}")
    return names


def _pairs(root: Path, names: list[str], labels: list[Path], how_to_get: str) -> list[FilePair]:
    images = [root / "JPEGImages" / f"{name}.jpg" for name in names]
    return checked_pairs([FilePair(*pair) for pair in zip(images, labels, strict=True)], how_to_get)
