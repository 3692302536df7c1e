"""Synapse: abdominal CT with 8 organs, the 30 training scans of BTCV in TransUNet's format.

Source: Landman et al., "Multi-atlas labeling beyond the cranial vault", MICCAI workshop 2015; the choice of the
organs, cases and format: Chen et al., "TransUNet", arXiv 2102.04306.
"""

from pathlib import Path
from typing import ClassVar

import torch

from resfu.data.base import Transform
from resfu.data.image_files import data_folder
from resfu.data.medical.base import SliceDataset, check_present, read_list, readable
from resfu.data.medical.geometry import Geometry, read_geometry
from resfu.data.medical.label_maps import LabelMap, find_label_map
from resfu.data.medical.nonfinite import Nonfinite, OnNonfinite
from resfu.data.medical.volume_files import VolumeFile, open_volume
from resfu.data.unreadable import OnError

LISTS = {"train": "train.txt", "val": "test_vol.txt", "test": "test_vol.txt"}
LIST_FOLDERS = ("lists_Synapse", "lists/lists_Synapse", ".")
ORGANS = ("aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach")

HOW_TO_GET = (
    "Give the folder with train_npz/caseNNNN_sliceNNN.npz, test_vol_h5/caseNNNN.npy.h5 and lists_Synapse/{train,"
    "test_vol}.txt. `resfu prepare synapse` makes it from the BTCV scans (synapse.org, project syn3193805)."
)
HINT = (
    "Files of another origin number the organs differently: give labels='cascade', or a map; for raw BTCV ids use "
    "`resfu prepare synapse`."
)


class Synapse(SliceDataset):
    """Axial CT slices with 8 organs; values -125 to 275 HU as 0 to 1.

    Args:
        split: "train" (slices of 18 cases), or "test" (12 volumes, slice by slice); "val" is the same as "test".
        root: the folder with `train_npz`, `test_vol_h5` and the lists.
        transform: see `SegmentationDataset`.
        labels: the meaning of the stored ids: "transunet", "cascade" (the same format, but the organs are numbered
            differently), "btcv", or a mapping from ids to classes.
        on_error: "raise" or "skip", see `SliceDataset`; "skip" leaves out a test volume that cannot be opened.
        nonfinite: what to do about NaN or infinite voxels: "error" reports their number (and obeys `on_error`), "fill"
            replaces them.
        fill_value: for "fill", in the values of the file; default: 0.

    Raises:
        ValueError: for an unknown split or label map, or a missing root; at access for ids outside the map.
        FileNotFoundError: for missing lists or files.
    """

    classes = ("background", *ORGANS)
    palette: ClassVar[torch.Tensor] = torch.tensor(
        [
            (0, 0, 0),
            (220, 40, 40),
            (70, 160, 60),
            (60, 90, 220),
            (90, 190, 240),
            (150, 80, 50),
            (240, 210, 60),
            (150, 60, 190),
            (240, 140, 180),
        ],
        dtype=torch.uint8,
    )
    assumed = Geometry("LAS")  # of BTCV's files

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        transform: Transform | None = None,
        labels: str | LabelMap = "transunet",
        on_error: OnError = "raise",
        nonfinite: OnNonfinite = "error",
        fill_value: float | None = None,
    ) -> None:
        policy = Nonfinite(nonfinite, fill_value)
        folder = data_folder("synapse", split, tuple(LISTS), root, HOW_TO_GET)
        names = read_list([folder / place for place in LIST_FOLDERS], LISTS[split], HOW_TO_GET)
        if split == "train":
            paths = check_present([folder / "train_npz" / f"{name}.npz" for name in names], HOW_TO_GET)
            volumes = [VolumeFile(path, "image", depth=1, nonfinite=policy) for path in paths]
        else:
            paths = check_present([folder / "test_vol_h5" / f"{name}.npy.h5" for name in names], HOW_TO_GET)
            volumes = readable(paths, lambda path: open_volume(path, "image", policy), on_error)
        super().__init__(
            volumes, find_label_map(labels, len(self.classes)), HINT, transform, on_error, read_geometry(folder)
        )
