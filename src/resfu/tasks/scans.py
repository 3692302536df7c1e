"""Scans without labels, for prediction."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from resfu.data import Sample
from resfu.data.image_files import UnreadableFileError
from resfu.data.medical.acdc import IMAGE_KEY as ACDC_IMAGE_KEY
from resfu.data.medical.geometry import STORED, Geometry
from resfu.data.medical.nifti import CT_WINDOW, NiftiVolume, scale_window
from resfu.data.medical.nonfinite import REFUSED, Nonfinite
from resfu.data.medical.resampling import ResampledVolume
from resfu.data.medical.volume_files import VolumeFile, is_h5, open_volume, unreadable
from resfu.data.unreadable import OnError
from resfu.evaluation.volume_inference import write_nifti
from resfu.files.atomic import replacing
from resfu.tasks.cases import Volume
from resfu.tasks.files import find_files

NIFTI = (".nii", ".nii.gz")
PREPARED = (".h5", ".npz")
# Values that prepared data have as 0 and 1; volumes of other data sets are scaled from their minimum to their maximum.
_WINDOWS = {"synapse": CT_WINDOW, "ct": CT_WINDOW}
_IMAGE_KEYS = {"acdc": ACDC_IMAGE_KEY}


class Scan(Volume):
    """A scan in the form for a network, read slice by slice.

    Args:
        path: a NIfTI file, whose values are scaled as by `resfu prepare`; or a prepared .h5 or .npz file.
        dataset: the data set on which the network was trained, a key of `resfu.data.DATASETS`.
        flip: reverse the second axis of a NIfTI scan's slices, if `geometry` does not change its axes.
        on_error: see `Volume`.
        geometry: orientation and spacing of the training data, to which a NIfTI scan is brought by its affine.
        nonfinite: what to do about voxels that are NaN or infinite.

    Raises:
        UnreadableFileError: naming the file.
    """

    def __init__(
        self,
        path: Path,
        dataset: str,
        flip: bool,
        on_error: OnError,
        geometry: Geometry = Geometry(),  # noqa: B008 (frozen, safe to share)
        nonfinite: Nonfinite = REFUSED,
    ) -> None:
        super().__init__(path.name, on_error)
        self.path = path
        self._window = _WINDOWS.get(dataset)
        self._stored: NiftiVolume | None = None
        self._source: NiftiVolume | ResampledVolume | VolumeFile
        if not path.name.lower().endswith(NIFTI):
            self._source = open_volume(path, _IMAGE_KEYS.get(dataset, "image"), nonfinite)
            return
        if self._window is not None:
            nonfinite = nonfinite.by_default(self._window[0])
        as_it_is = geometry.orientation in (None, STORED)
        self._stored = NiftiVolume(path, flip=flip and as_it_is, orientation=geometry.orientation, nonfinite=nonfinite)
        for doubt in self._stored.doubts:
            warnings.warn(doubt, stacklevel=2)
        self._source = self._stored
        if geometry.spacing is not None:
            self._source = ResampledVolume(self._stored, geometry.spacing)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        pixels = self._source[index]
        if self._stored is None:
            return pixels
        if self._window is None:
            low, high = self._window = self._stored.finite_range()
            if not low < high:
                raise unreadable(self.path, ValueError(f"its values reach from {low} to {high}"))
        return scale_window(pixels, self._window)

    def write(self, labels: NDArray[np.uint8], path: Path) -> None:
        """Store labels [D, H, W] as the scan is stored: NIfTI on the scan's grid, or the key "label" of h5 or npz."""
        if self._stored is not None:
            if isinstance(self._source, ResampledVolume):
                labels = self._source.labels_there(labels)
            write_nifti(self._stored.as_stored(labels), path, self._stored.affine)
            return
        with replacing(path) as draft:
            if is_h5(path):
                import h5py

                with h5py.File(draft, "w") as file:
                    file.create_dataset("label", data=labels, chunks=(1, *labels.shape[1:]), compression="gzip")
            else:
                with draft.open("wb") as file:  # given a path, numpy would add .npz to NAME.NPZ
                    np.savez_compressed(file, label=labels)


class Scans(Dataset[Sample]):
    """Files of scans as volumes without labels.

    Args:
        places: files, and folders, see `find_files`.
        dataset: see `Scan`.
        size: the size at which the network gets a slice.
        flip: see `Scan`.
        on_error: "raise" stops at an unreadable file; "skip" gives {"error": message, "name": of the file} in its
            place.
        geometry: see `Scan`.
        nonfinite: see `Scan`.

    Raises:
        FileNotFoundError: for a place that is not there.
        ValueError: for a folder without scans, none at all, two of one name, or a file of another kind; on access with
            "raise" for an unreadable file, naming it.
    """

    def __init__(
        self,
        places: Sequence[str | Path],
        dataset: str,
        size: int,
        flip: bool,
        on_error: OnError,
        geometry: Geometry = Geometry(),  # noqa: B008 (frozen, safe to share)
        nonfinite: Nonfinite = REFUSED,
    ) -> None:
        found = find_files(places, NIFTI + PREPARED, "scan", keep_suffix=True)
        self.names, self.files = list(found), list(found.values())
        for file in self.files:
            if not file.name.lower().endswith(NIFTI + PREPARED):
                raise ValueError(
                    f"{file} is no scan: a network that was trained on {dataset!r} takes files that end in "
                    f"{', '.join(NIFTI + PREPARED)}."
                )
        self.dataset, self.size, self.flip = dataset, size, flip
        self.geometry, self.nonfinite = geometry, nonfinite
        self.on_error: OnError = on_error

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file = self.files[index]
        try:
            scan = Scan(file, self.dataset, self.flip, self.on_error, self.geometry, self.nonfinite)
        except UnreadableFileError as error:
            if self.on_error == "raise":
                raise
            return {"error": str(error), "name": self.names[index]}
        scan.name = self.names[index]
        return {"volume": scan, "name": scan.name, "input_size": self.size}
