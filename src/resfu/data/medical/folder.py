"""A plain folder of volumes: your own scans and organs, without a line of code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from resfu.data.base import Transform
from resfu.data.class_list import EXAMPLE, FILE, read_classes
from resfu.data.image_files import data_folder, list_files
from resfu.data.medical.base import SliceDataset, readable
from resfu.data.medical.geometry import STORED, Geometry, read_geometry
from resfu.data.medical.nonfinite import Nonfinite, OnNonfinite
from resfu.data.medical.volume_files import open_volume
from resfu.data.unreadable import OnError

SPLITS = ("train", "val", "test")
SUFFIXES = (".npz", ".h5")

HOW_TO_ARRANGE = (
    "A folder of your own volumes holds {train,val,test}/NAME.npz (or .h5) with the arrays image, [D, H, W], values 0 "
    f"to 1, and label, [D, H, W], class numbers; class 0 is the background. {EXAMPLE}."
)


class VolumeFolder(SliceDataset):
    """Slices of the volumes in a folder, with the classes of its classes.txt.

    Args:
        split: "train", "val" or "test"; its samples are the slices of its volumes.
        root: the folder, with classes.txt and SPLIT/NAME.npz or .h5; an optional geometry.json, in the format of
            `resfu prepare`, gives the orientation and spacing.
        transform: see `SegmentationDataset`.
        on_error: "raise" or "skip", see `SliceDataset`; "skip" leaves out a volume that cannot be opened.
        nonfinite: what to do about NaN or infinite voxels: "error" reports their number (and obeys `on_error`), "fill"
            replaces them.
        fill_value: for "fill", in the values of the file; default: 0.

    Raises:
        ValueError: for an unknown split, a missing root or an invalid line in classes.txt; at access for labels that
            are not a class.
        FileNotFoundError: for missing folders, volumes or classes.txt.
    """

    classes = ()
    palette: ClassVar[Tensor] = torch.zeros(0, 3, dtype=torch.uint8)
    assumed = Geometry(STORED)

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
        nonfinite: OnNonfinite = "error",
        fill_value: float | None = None,
    ) -> None:
        policy = Nonfinite(nonfinite, fill_value)
        folder = data_folder("volume-folder", split, SPLITS, root, HOW_TO_ARRANGE)
        self.classes, self.palette = read_classes(folder)  # pyright: ignore[reportAttributeAccessIssue]
        paths = list_files(folder / split, SUFFIXES, HOW_TO_ARRANGE)
        volumes = readable(paths, lambda path: open_volume(path, "image", policy), on_error)
        labels = {number: number for number in range(self.num_classes)}
        hint = f"These are the {self.num_classes} classes of {folder / FILE}."
        super().__init__(volumes, labels, hint, transform, on_error, read_geometry(folder))
