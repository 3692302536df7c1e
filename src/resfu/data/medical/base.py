"""Datasets of the slices of volumes."""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors

from resfu.data.base import Sample, SegmentationDataset, Transform
from resfu.data.image_files import listed_names
from resfu.data.medical.geometry import Geometry
from resfu.data.medical.label_maps import LabelMap, to_classes
from resfu.data.medical.volume_files import VolumeFile
from resfu.data.unreadable import FirstReadable, OnError, UnreadableFileError, check_on_error


class SliceDataset(SegmentationDataset):
    """Base of the datasets of slices.

    Items follow `SegmentationDataset`, but the image is float32 [3, H, W]: the slice's one channel, repeated three
    times, with the values of the volume (0 to 1 in prepared data). `volumes` and `classes_of` serve the evaluation by
    volume.

    Args:
        volumes: the files, in order; a file with a single slice has depth 1.
        labels: from stored ids to classes; other ids are an error.
        hint: what to do about other ids, for the message.
        transform: see `SegmentationDataset`.
        on_error: what to do about a damaged file. "raise": an error that names it. "skip": one warning per slice, and
            the next readable slice in its place; the length stays the same.
        geometry: the orientation and spacing of the slices, if known.

    Raises:
        ValueError: for an unknown `on_error`, or without volumes.
    """

    assumed: ClassVar[Geometry]  # for data that do not say it

    def __init__(
        self,
        volumes: list[VolumeFile],
        labels: LabelMap,
        hint: str,
        transform: Transform | None = None,
        on_error: OnError = "raise",
        geometry: Geometry = Geometry(),  # noqa: B008 (frozen, safe to share)
    ) -> None:
        super().__init__(transform)
        self.geometry = geometry
        if not volumes:
            raise ValueError("no volume can be read.")
        self.volumes = volumes
        self.labels = labels
        self.hint = hint
        self.on_error = on_error
        self._readable = FirstReadable(on_error, "slice")
        self._places = [(volume, index) for volume in volumes for index in range(volume.depth)]

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> Sample:
        """Read the slice at `index`; with on_error="skip", the first readable one from there on."""
        where = f"the first being in {self.volumes[0].path}"
        return self._readable.read(lambda place: self._read(*self._places[place]), index, len(self), where)

    def classes_of(self, volume: VolumeFile) -> NDArray[np.uint8]:
        """The label of a whole volume.

        Args:
            volume: one of `volumes`.

        Returns:
            [D, H, W], classes.

        Raises:
            UnreadableFileError: naming the file.
            ValueError: naming the file and the ids outside the label map.
        """
        return to_classes(volume.labels(), self.labels, volume.path, self.hint)

    def _read(self, volume: VolumeFile, index: int) -> Sample:
        image, stored = volume[index], volume.label(index)
        if image.ndim != 2 or image.shape != stored.shape:
            raise ValueError(
                f"a slice of {volume.path} has an image of {image.shape} and a label of {stored.shape}; expected "
                "[H, W] of one size."
            )
        label = to_classes(stored, self.labels, volume.path, self.hint)
        return {
            "image": tv_tensors.Image(torch.from_numpy(image).repeat(3, 1, 1)),
            "label": tv_tensors.Mask(torch.from_numpy(label.astype(np.int64))),
            "name": volume.slice_name(index),
        }


def readable(paths: Iterable[Path], read: Callable[[Path], VolumeFile], on_error: OnError) -> list[VolumeFile]:
    """Open volume files to read their depth.

    Args:
        paths: the files.
        read: opens one.
        on_error: "raise", or "skip": leave a damaged file out, with a warning that names it.

    Raises:
        UnreadableFileError: naming the file.
    """
    volumes = []
    for path in paths:
        try:
            volumes.append(read(path))
        except UnreadableFileError as error:
            if check_on_error(on_error) == "raise":
                raise UnreadableFileError(f"{error} Replace it, or skip it with on_error='skip'.") from error
            warnings.warn(f"{error} It is left out.", stacklevel=4)
    return volumes


def read_list(folders: Iterable[Path], name: str, how_to_get: str) -> list[str]:
    """Read a file list, one name per line, from the first folder that has it.

    Raises:
        FileNotFoundError: if no folder has it.
        ValueError: for an empty list.
    """
    places = [folder / name for folder in folders]
    for place in places:
        if place.is_file():
            names = listed_names(place)
            if not names:
                raise ValueError(f"{place} lists no file.")
            return names
    raise FileNotFoundError(f"no list {' or '.join(map(str, places))}. {how_to_get}")


def check_present(paths: list[Path], how_to_get: str) -> list[Path]:
    """The paths, after a check that all files exist.

    Raises:
        FileNotFoundError: naming the first missing file.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} listed files are missing; the first is {missing[0]}. {how_to_get}"
        )
    return paths
