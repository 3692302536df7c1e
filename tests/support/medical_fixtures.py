"""Tiny copies of the medical data sets on disk, made from procedural volumes: to test a pipeline without a download.

Nothing that is measured on them says anything about the data set.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from resfu.data.generated.volumes.cardiac import Phase, cardiac_volume
from resfu.data.generated.volumes.ct import ct_volume
from resfu.data.generated.volumes.fields import Size
from resfu.data.medical.acdc import ACDC
from resfu.data.medical.label_maps import SYNAPSE_LABELS
from resfu.data.medical.nifti import scale_window
from resfu.data.medical.synapse import Synapse
from resfu.data.medical.writers import Case, write_acdc, write_synapse
from resfu.files.atomic import replacing, write_json, write_text
from resfu.files.folder import check_empty

PHASES: tuple[Phase, ...] = ("ED", "ES")
FRAMES = {"ED": 1, "ES": 12}
CT_AFFINE = np.diag([-0.8, 0.8, 3.0, 1.0])
MRI_AFFINE = np.diag([-1.4, -1.4, 10.0, 1.0])


def write_medical_fixture(name: str, root: str | Path, count: int = 2, size: Size = (6, 48, 40), seed: int = 0) -> Path:
    """Write a tiny valid copy of a data set.

    Args:
        name: one of `MEDICAL_FIXTURES`: "synapse" and "acdc" in the prepared formats, "synapse-nifti" and "acdc-nifti"
            as the challenges give them, with splits.json for `resfu prepare --splits`. Their headers are like the
            challenges' too: the axes point where a challenge's do, whatever the generated body in them.
        root: a new or empty folder.
        count: patients per split.
        size: (D, H, W) of a volume.
        seed: another one gives other volumes.

    Returns:
        The folder. Preparing the raw copy gives the prepared one, voxel by voxel.

    Raises:
        ValueError: for an unknown name, a count or size that makes no sense, or a folder that holds something.
    """
    if name not in MEDICAL_FIXTURES:
        raise ValueError(f"no fixture of {name!r}; choose one of {', '.join(MEDICAL_FIXTURES)}.")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    MEDICAL_FIXTURES[name](Path(root), count, size, seed)
    return Path(root)


def _synapse(root: Path, count: int, size: Size, seed: int) -> None:
    write_synapse(
        root, (case._replace(image=scale_window(case.image)) for case in _scans(count, size, seed)), Synapse.assumed
    )


def _acdc(root: Path, count: int, size: Size, seed: int) -> None:
    cases = _hearts(count, size, seed)
    write_acdc(
        root, (case._replace(image=scale_window(case.image, _range(case.image))) for case in cases), ACDC.assumed
    )


def _synapse_nifti(root: Path, count: int, size: Size, seed: int) -> None:
    """Raw ids; some of those that become background lie in the first slice."""
    raw_ids = {value: key for key, value in SYNAPSE_LABELS["btcv"].items() if value}
    table = np.array([raw_ids.get(number, 0) for number in range(9)], dtype=np.uint8)
    check_empty(root)
    folder = root / "RawData" / "Training"
    splits: dict[str, list[int]] = {}
    for case in _scans(count, size, seed):
        splits.setdefault(case.split, []).append(case.number)
        label = table[case.label]
        free = np.flatnonzero(label[0].ravel() == 0)[:5]
        label[0].ravel()[free] = (5, 9, 10, 12, 13)
        _save(case.image.astype(np.int16), folder / "img" / f"img{case.number:04d}.nii.gz", CT_AFFINE)
        _save(label, folder / "label" / f"label{case.number:04d}.nii.gz", CT_AFFINE)
    write_json(root / "splits.json", splits, indent=None, durable=False)


def _acdc_nifti(root: Path, count: int, size: Size, seed: int) -> None:
    check_empty(root)
    folder = root / "training"
    splits: dict[str, list[int]] = {}
    for case in _hearts(count, size, seed):
        patient = folder / f"patient{case.number:03d}"
        if case.number not in splits.setdefault(case.split, []):
            splits[case.split].append(case.number)
        stem = f"{patient.name}_frame{FRAMES[case.frame]:02d}"
        _save(case.image.astype(np.int16), patient / f"{stem}.nii.gz", MRI_AFFINE)
        _save(case.label, patient / f"{stem}_gt.nii.gz", MRI_AFFINE)
        lines = [*(f"{phase}: {frame}" for phase, frame in FRAMES.items()), "Group: NOR", "NbFrame: 30"]
        write_text(patient / "Info.cfg", "\n".join(lines) + "\n", durable=False)
    write_json(root / "splits.json", splits, indent=None, durable=False)


def _scans(count: int, size: Size, seed: int) -> Iterator[Case]:
    """CT in HU; the cases of the two splits are numbered on."""
    for first, split in ((1, "train"), (1 + count, "test")):
        for index in range(count):
            values, label = ct_volume(seed, split, index, size)
            yield Case(split, first + index, values.astype(np.float32), label)


def _hearts(count: int, size: Size, seed: int) -> Iterator[Case]:
    for place, split in enumerate(("train", "val", "test")):
        for index in range(count):
            for phase in PHASES:
                values, label = cardiac_volume(seed, split, index, phase, size)
                yield Case(split, 1 + place * count + index, values.astype(np.float32), label, phase)


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _save(volume: np.ndarray, path: Path, affine: np.ndarray) -> None:
    """Store [z, x, y] as (x, y, z)."""
    import nibabel

    with replacing(path, durable=False) as draft:
        nibabel.save(nibabel.Nifti1Image(volume.transpose(1, 2, 0), affine), draft)


MEDICAL_FIXTURES: dict[str, Callable[[Path, int, Size, int], None]] = {
    "synapse": _synapse,
    "acdc": _acdc,
    "synapse-nifti": _synapse_nifti,
    "acdc-nifti": _acdc_nifti,
}
