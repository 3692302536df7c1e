"""Datasets whose samples are the slices of volumes."""

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

    An item is as `SegmentationDataset` says, but for the image: float32 [3, H, W], the one channel of the slice three
    times, as the volume holds it (0 to 1 in prepared data).

    `volumes` are the files; with `classes_of` they serve evaluation by volume.

    Args:
        volumes: the files, in order; those that single slices come from have the depth 1.
        labels: from stored ids to classes; other ids are an error.
        hint: what to do about other ids, for the message.
        transform: see `SegmentationDataset`.
        on_error: what a damaged file leads to. "raise": an error that names it. "skip": one warning per slice, and the
            next readable slice takes its place, so that the length stays.
        geometry: how the slices lie in the patient, where that is known.

    Raises:
        ValueError: for another `on_error`, or no volume.
    """

    assumed: ClassVar[Geometry]  # how slices lie whose data do not say it

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
            raise ValueError("there is no volume that can be read.")
        self.volumes = volumes
        self.labels = labels
        self.hint = hint
        self.on_error = on_error
        self._readable = FirstReadable(on_error, "slice")
        self._places = [(volume, index) for volume in volumes for index in range(volume.depth)]

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> Sample:
        """Read the slice at `index`, or with on_error="skip" the first readable one from there on."""
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
            ValueError: for ids outside of the label map, naming the file and them.
        """
        return to_classes(volume.labels(), self.labels, volume.path, self.hint)

    def _read(self, volume: VolumeFile, index: int) -> Sample:
        image, stored = volume[index], volume.label(index)
        if image.ndim != 2 or image.shape != stored.shape:
            raise ValueError(
                f"{volume.path} holds an image of {image.shape} and a label of {stored.shape} in a slice; expected "
                "[H, W] of one size."
            )
        label = to_classes(stored, self.labels, volume.path, self.hint)
        return {
            "image": tv_tensors.Image(torch.from_numpy(image).repeat(3, 1, 1)),
            "label": tv_tensors.Mask(torch.from_numpy(label.astype(np.int64))),
            "name": volume.slice_name(index),
        }


def readable(paths: Iterable[Path], read: Callable[[Path], VolumeFile], on_error: OnError) -> list[VolumeFile]:
    """Open files of volumes, whose depth only the file tells.

    Args:
        paths: the files.
        read: opens one.
        on_error: "raise", or "skip": a damaged file is named in a warning and left out.

    Returns:
        The volumes.

    Raises:
        UnreadableFileError: naming the file.
    """
    volumes = []
    for path in paths:
        try:
            volumes.append(read(path))
        except UnreadableFileError as error:
            if check_on_error(on_error) == "raise":
                raise UnreadableFileError(f"{error} Replace it, or go on without it by on_error='skip'.") from error
            warnings.warn(f"{error} It is left out.", stacklevel=4)
    return volumes


def read_list(folders: Iterable[Path], name: str, how_to_get: str) -> list[str]:
    """Read a list of files, one name a line, from the first folder that has it.

    Raises:
        FileNotFoundError: where no folder has it.
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
    """The paths as they are, once it is known that all files are there.

    Raises:
        FileNotFoundError: naming the first that is not.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"listed files that are not there: {len(missing)} of {len(paths)}; the first is {missing[0]}. {how_to_get}"
        )
    return paths
