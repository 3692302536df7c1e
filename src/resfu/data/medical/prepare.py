"""Convert the raw NIfTI files of BTCV and ACDC to the formats for training."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from resfu.data.image_files import UnreadableFileError
from resfu.data.medical.acdc import ACDC, IDENTITY
from resfu.data.medical.base import check_present
from resfu.data.medical.geometry import Geometry
from resfu.data.medical.label_maps import LabelMap, find_label_map
from resfu.data.medical.nifti import CT_WINDOW, Window, scale_window
from resfu.data.medical.nonfinite import REFUSED, Nonfinite
from resfu.data.medical.pairs import PairReader, settled
from resfu.data.medical.synapse import Synapse
from resfu.data.medical.writers import Case, write_acdc, write_synapse
from resfu.data.unreadable import OnError, check_on_error

Splits = Mapping[str, Sequence[int]]
Progress = Callable[[int, int], object]
OnCase = Callable[[Case], object]

SYNAPSE_SPLITS: Splits = {
    "train": (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40),
    "test": (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38),
}
# 70, 10 and 20 of the 100 patients. The published split is not documented. The patients are numbered in five groups of
# 20 by diagnosis; this split takes the same share of each.
ACDC_SPLITS: Splits = {
    "train": tuple(n for n in range(1, 101) if n % 10 in range(1, 8)),
    "val": tuple(n for n in range(1, 101) if n % 10 == 8),
    "test": tuple(n for n in range(1, 101) if n % 10 in (9, 0)),
}


class _Scan(NamedTuple):
    split: str
    number: int
    image: Path
    label: Path
    frame: str = ""


def prepare_synapse(
    raw: str | Path,
    out: str | Path,
    labels: str | LabelMap = "btcv",
    splits: Splits = SYNAPSE_SPLITS,
    window: Window = CT_WINDOW,
    flip: bool = False,
    on_error: OnError = "raise",
    progress: Progress | None = None,
    geometry: Geometry = Geometry(),  # noqa: B008 (frozen, safe to share)
    nonfinite: Nonfinite = REFUSED,
    on_mismatch: Literal["raise", "warn"] = "raise",
    on_case: OnCase | None = None,
) -> Path:
    """Convert the BTCV scans to the data of `resfu.data.Synapse`.

    Args:
        raw: the folder RawData/Training, or one above it: img/imgNNNN.nii.gz and label/labelNNNN.nii.gz.
        out: a new or empty folder.
        labels: the meaning of the label ids: "btcv" for the challenge's own, another name or a map, see
            `resfu.data.medical.label_maps`.
        splits: case numbers of "train" and "test"; default: TransUNet's 18 and 12.
        window: HU that become 0 and 1; values outside are clipped.
        flip: reverse the last axis of the output [z, x, y], see `NiftiVolume`.
        on_error: what to do about a damaged scan: "raise", or "skip" it with a warning.
        progress: called with (scans done, scans).
        geometry: the orientation of the output, by the scans' affines (default: that of the first case, or "LAS" if
            its slices would not be axial), and its spacing (default: not resampled). The folder records both, for
            scans to be predicted later.
        nonfinite: what to do about NaN or infinite voxels.
        on_mismatch: what to do if a label and its image differ in position: "raise" or "warn".
        on_case: called with each written case, such as `Tally.add`.

    Returns:
        The folder `out`.

    Raises:
        ValueError: for an invalid option, ids outside the map, or an image and label on different grids.
        FileNotFoundError: for missing scans.
    """
    known = find_label_map(labels, len(Synapse.classes))
    folder = _first_folder(raw, ("", "Training", "RawData/Training"), "img", "BTCV's RawData/Training")
    scans = [
        _Scan(split, number, folder / "img" / f"img{number:04d}.nii.gz", folder / "label" / f"label{number:04d}.nii.gz")
        for split, number in _listed(splits, ("train", "test"))
    ]

    geometry = _checked(scans, geometry, Synapse.assumed, on_error)
    reader = PairReader(known, geometry, flip, nonfinite.by_default(window[0]), on_mismatch)

    def read(scan: _Scan) -> Case:
        image, label = reader.read(scan.image, scan.label)
        return Case(scan.split, scan.number, scale_window(image, window), label)

    written = geometry.flipped() if flip else geometry
    return write_synapse(out, _read_cases(scans, _reporting(read, on_case), on_error, progress), written)


def prepare_acdc(
    raw: str | Path,
    out: str | Path,
    labels: LabelMap = IDENTITY,
    splits: Splits = ACDC_SPLITS,
    on_error: OnError = "raise",
    progress: Progress | None = None,
    geometry: Geometry = Geometry(),  # noqa: B008 (frozen, safe to share)
    nonfinite: Nonfinite = REFUSED,
    on_mismatch: Literal["raise", "warn"] = "raise",
    on_case: OnCase | None = None,
) -> Path:
    """Convert the challenge's files to the data of `resfu.data.ACDC`, scaling each volume to 0..1.

    Args:
        raw: the folder of the patients, or one above it: patientNNN/ with Info.cfg (the numbers of the frames ED and
            ES), patientNNN_frameNN.nii.gz and patientNNN_frameNN_gt.nii.gz.
        out: a new or empty folder.
        labels: from stored ids to classes; default: 0 to 3 unchanged.
        splits: patient numbers of "train", "val" and "test"; default: 70, 10 and 20 of the 100.
        on_error: what to do about a damaged scan: "raise", or "skip" it with a warning.
        progress: called with (scans done, scans).
        geometry: the orientation of the output, by the scans' affines (default: that of the first case, or "LPS" if
            its slices would not be axial), and its spacing (default: not resampled). The folder records both, for
            scans to be predicted later.
        nonfinite: what to do about NaN or infinite voxels.
        on_mismatch: what to do if a label and its image differ in position: "raise" or "warn".
        on_case: called with each written case, such as `Tally.add`.

    Returns:
        The folder `out`.

    Raises:
        ValueError: for an invalid option, ids outside the map, or an image and label on different grids.
        FileNotFoundError: for missing scans.
    """
    known = find_label_map(labels, len(ACDC.classes))
    numbers = _listed(splits, ("train", "val", "test"))
    first = f"patient{numbers[0][1]:03d}"
    folder = _first_folder(raw, ("", "training", "database/training"), first, "ACDC's training")
    scans = []
    for split, number in numbers:
        patient = folder / f"patient{number:03d}"
        for phase, frame in _frames(patient / "Info.cfg").items():
            stem = patient / f"{patient.name}_frame{frame:02d}"
            scans.append(_Scan(split, number, Path(f"{stem}.nii.gz"), Path(f"{stem}_gt.nii.gz"), phase))

    geometry = _checked(scans, geometry, ACDC.assumed, on_error)
    reader = PairReader(known, geometry, False, nonfinite, on_mismatch)

    def read(scan: _Scan) -> Case:
        image, label = reader.read(scan.image, scan.label)
        # A volume of one value has no scale.
        image = scale_window(image, (float(image.min()), float(image.max()))) if np.ptp(image) else image * 0
        return Case(scan.split, scan.number, image, label, scan.frame)

    return write_acdc(out, _read_cases(scans, _reporting(read, on_case), on_error, progress), geometry)


def _checked(scans: list[_Scan], geometry: Geometry, assumed: Geometry, on_error: OnError) -> Geometry:
    """Check that all files exist, before anything is written, and settle the geometry."""
    check_on_error(on_error)
    check_present([path for scan in scans for path in (scan.image, scan.label)], "List the existing cases in splits.")
    return settled(geometry, (scan.image for scan in scans), assumed, on_error)


def _read_cases(
    scans: list[_Scan], read: Callable[[_Scan], Case], on_error: OnError, progress: Progress | None
) -> Iterator[Case]:
    for done, scan in enumerate(scans, start=1):
        try:
            yield read(scan)
        except UnreadableFileError as error:
            if on_error == "raise":
                raise UnreadableFileError(f"{error} Replace it, or skip it with on_error='skip'.") from error
            warnings.warn(f"{error} The case is left out.", stacklevel=4)
        if progress is not None:
            progress(done, len(scans))


def _reporting(read: Callable[[_Scan], Case], on_case: OnCase | None) -> Callable[[_Scan], Case]:
    def read_and_tell(scan: _Scan) -> Case:
        case = read(scan)
        if on_case is not None:
            on_case(case)
        return case

    return read_and_tell


def _listed(splits: Splits, known: Sequence[str]) -> list[tuple[str, int]]:
    """The pairs of split and case number."""
    lists = splits.values() if isinstance(splits, Mapping) else [None]
    if not all(isinstance(cases, Sequence) and all(isinstance(n, int) for n in cases) for cases in lists):
        raise ValueError(f"splits must be lists of case numbers by split, got {splits!r}.")
    if unknown := sorted(set(splits) - set(known)):
        raise ValueError(f"unknown split {unknown[0]!r}; choose from {', '.join(known)}.")
    cases = [(split, number) for split in known for number in splits.get(split, ())]
    numbers = [number for _, number in cases]
    if not cases or len(set(numbers)) < len(numbers):
        raise ValueError(f"splits must name each case once, got {dict(splits)}.")
    return cases


def _first_folder(raw: str | Path, places: Sequence[str], inside: str, what: str) -> Path:
    for place in places:
        if (Path(raw) / place / inside).is_dir():
            return Path(raw) / place
    raise FileNotFoundError(f"no folder {inside} in {raw}: give {what}, or a folder above it.")


def _frames(path: Path) -> dict[str, int]:
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: it says which frames are ED and ES. List the existing cases in splits.")
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines())
    values = {key.strip(): value.strip() for key, _, value in lines}
    if not all(values.get(phase, "").isdigit() for phase in ("ED", "ES")):
        raise ValueError(f"{path} does not give the numbers of the frames ED and ES.")
    return {phase: int(values[phase]) for phase in ("ED", "ES")}
