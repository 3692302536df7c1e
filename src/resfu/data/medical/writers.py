"""Write prepared cases in the formats that `Synapse` and `ACDC` read."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resfu.data.medical.acdc import FOLDERS as ACDC_FOLDERS
from resfu.data.medical.acdc import IMAGE_KEY
from resfu.data.medical.geometry import Geometry, write_geometry
from resfu.files.atomic import write_text
from resfu.files.folder import filled


class Case(NamedTuple):
    """A prepared volume.

    Args:
        split: "train", "val" or "test".
        number: the number of the patient.
        image: float32 [D, H, W], 0 to 1.
        label: uint8 [D, H, W], classes.
        frame: "ED" or "ES", of ACDC.
    """

    split: str
    number: int
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    frame: str = ""


def write_synapse(root: str | Path, cases: Iterable[Case], geometry: Geometry = Geometry()) -> Path:  # noqa: B008
    """Write cases in TransUNet's Synapse format: training cases as npz slices, test cases as h5 volumes.

    The files appear when all cases are done, with the lists last: if they exist, the data are complete.

    Args:
        root: a new or empty folder.
        cases: of the splits "train" and "test"; a generator keeps one volume in memory.
        geometry: recorded in the folder, unless unknown.

    Returns:
        The folder.

    Raises:
        ValueError: for a folder that is not empty, or that another process is filling.
    """
    with filled(root, "resfu prepare synapse", last=("lists_Synapse",)) as folder:
        _write_synapse(folder, cases)
        write_geometry(folder, geometry)
    return Path(root)


def _write_synapse(folder: Path, cases: Iterable[Case]) -> None:
    import h5py

    lists: dict[str, list[str]] = {"train": [], "test_vol": []}
    for case in cases:
        for part in ("train_npz", "test_vol_h5"):
            (folder / part).mkdir(exist_ok=True)
        name, label = f"case{case.number:04d}", case.label.astype(np.float32)  # the published labels are floats
        if case.split == "train":
            for index, (image, mask) in enumerate(zip(case.image, label, strict=True)):
                stem = f"{name}_slice{index:03d}"
                np.savez(folder / "train_npz" / f"{stem}.npz", image=image, label=mask)
                lists["train"].append(stem)
        else:
            with h5py.File(folder / "test_vol_h5" / f"{name}.npy.h5", "w") as file:
                for key, array in (("image", case.image), ("label", label)):
                    file.create_dataset(key, data=array, chunks=(1, *array.shape[1:]), compression="gzip")
            lists["test_vol"].append(name)
    _write_lists(folder / "lists_Synapse", lists)


def write_acdc(root: str | Path, cases: Iterable[Case], geometry: Geometry = Geometry()) -> Path:  # noqa: B008
    """Write cases in ACDC's usual format: npz slices for training and validation, npz volumes for testing.

    Otherwise like `write_synapse`; each case has a frame.
    """
    with filled(root, "resfu prepare acdc", last=("lists_ACDC",)) as folder:
        _write_acdc(folder, cases)
        write_geometry(folder, geometry)
    return Path(root)


def _write_acdc(folder: Path, cases: Iterable[Case]) -> None:
    lists: dict[str, list[str]] = {part: [] for part in ACDC_FOLDERS.values()}
    for case in cases:
        for part in lists:
            (folder / part).mkdir(exist_ok=True)
        part, name = ACDC_FOLDERS[case.split], f"case_{case.number:03d}"
        if case.split == "test":
            files = {f"{name}_volume_{case.frame}.npz": (case.image, case.label)}
        else:
            slices = enumerate(zip(case.image, case.label, strict=True))
            files = {f"{name}_slice{case.frame}_{index}.npz": pair for index, pair in slices}
        for file, (image, label) in files.items():
            np.savez_compressed(folder / part / file, **{IMAGE_KEY: image, "label": label})
            lists[part].append(file)
    _write_lists(folder / "lists_ACDC", lists)


def _write_lists(folder: Path, lists: dict[str, list[str]]) -> None:
    for name, lines in lists.items():
        write_text(folder / f"{name}.txt", "".join(f"{line}\n" for line in lines))
