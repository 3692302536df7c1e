"""ACDC: short-axis cardiac MRI with 3 structures, in the format that TransUNet's successors share.

Source: Bernard et al., "Deep learning techniques for automatic MRI cardiac multi-structures segmentation and
diagnosis", IEEE TMI 2018.
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

FOLDERS = {"train": "train", "val": "valid", "test": "test"}
IMAGE_KEY = "img"  # not "image", which is Synapse's
IDENTITY: LabelMap = {number: number for number in range(4)}

HOW_TO_GET = (
    "Give the folder with train/, valid/, test/ and lists_ACDC/{train,valid,test}.txt. `resfu prepare acdc` makes it "
    "from the challenge's NIfTI files (patientNNN/patientNNN_frameNN.nii.gz)."
)


class ACDC(SliceDataset):
    """Cardiac MRI slices with the right ventricle (1), the myocardium (2) and the left ventricle (3).

    Values are not changed. `resfu prepare acdc` scales each volume to 0..1; the scaling of the files in circulation is
    not documented.

    Args:
        split: "train" or "val" (both slices), or "test" (volumes, slice by slice).
        root: the folder with `train`, `valid`, `test` and `lists_ACDC`.
        transform: see `SegmentationDataset`.
        labels: from stored ids to classes; default: 0 to 3 unchanged.
        on_error: "raise" or "skip", see `SliceDataset`; "skip" leaves out a test volume that cannot be opened.
        nonfinite: what to do about NaN or infinite voxels: "error" reports their number (and obeys `on_error`), "fill"
            replaces them.
        fill_value: for "fill", in the values of the file; default: 0.

    Raises:
        ValueError: for an unknown split, a missing root or an invalid map; at access for ids outside the map.
        FileNotFoundError: for missing lists or files.
    """

    classes = ("background", "right ventricle", "myocardium", "left ventricle")
    palette: ClassVar[torch.Tensor] = torch.tensor(
        [(0, 0, 0), (70, 110, 230), (80, 180, 90), (220, 60, 60)], dtype=torch.uint8
    )
    assumed = Geometry("LPS")  # of the challenge's files

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        transform: Transform | None = None,
        labels: LabelMap = IDENTITY,
        on_error: OnError = "raise",
        nonfinite: OnNonfinite = "error",
        fill_value: float | None = None,
    ) -> None:
        policy = Nonfinite(nonfinite, fill_value)
        folder = data_folder("acdc", split, tuple(FOLDERS), root, HOW_TO_GET)
        part = FOLDERS[split]
        names = read_list([folder / "lists_ACDC", folder], f"{part}.txt", HOW_TO_GET)
        paths = check_present([folder / part / name for name in names], HOW_TO_GET)
        if split == "test":
            volumes = readable(paths, lambda path: open_volume(path, IMAGE_KEY, policy), on_error)
        else:
            volumes = [VolumeFile(path, IMAGE_KEY, depth=1, nonfinite=policy) for path in paths]
        hint = "ACDC has 0 background, 1 right ventricle, 2 myocardium, 3 left ventricle."
        known = find_label_map(labels, len(self.classes))
        super().__init__(volumes, known, hint, transform, on_error, read_geometry(folder))
