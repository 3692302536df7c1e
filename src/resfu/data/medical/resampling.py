"""Resample scans to another spacing, slice by slice, and their labels back to the grid of the scan."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resfu.data.medical.nifti import NiftiVolume
from resfu.data.medical.volume_files import unreadable

LARGEST = 4096  # voxels along an axis


class ResampledVolume:
    """A scan, resampled to another spacing.

    The volume keeps its extent: its length along an axis, in units of the requested spacing, is rounded to a whole
    number of voxels. Values are interpolated linearly. Two slices of the scan are in memory at a time.

    Args:
        source: the scan, not scaled.
        spacing: along x, y and z, in mm.

    Raises:
        UnreadableFileError: naming a scan that would become too large.
    """

    def __init__(self, source: NiftiVolume, spacing: Sequence[float]) -> None:
        self.source = source
        x, y, z = (old / new for old, new in zip(source.spacing, spacing, strict=True))
        sizes = [max(1, round(n * ratio)) for n, ratio in zip(source.shape, (z, x, y), strict=True)]
        if max(sizes) > LARGEST:
            raise unreadable(
                source.path,
                ValueError(
                    f"its spacing is {source.spacing} mm, and at {tuple(spacing)} mm its size would be {sizes}: check "
                    "the spacing in its header"
                ),
            )
        self.shape = (sizes[0], sizes[1], sizes[2])
        self._places = [_between(old, new) for old, new in zip(source.shape, sizes, strict=True)]
        self._read: dict[int, NDArray[np.float32]] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """A slice [x, y].

        Raises:
            UnreadableFileError: naming the file.
        """
        place = range(len(self))[index]
        low, share = (values[place] for values in self._places[0])
        lower = self._in_plane(int(low))
        return lower if share == 0 else lower + share * (self._in_plane(int(low) + 1) - lower)

    def image(self) -> NDArray[np.float32]:
        """The whole volume [z, x, y].

        Raises:
            UnreadableFileError: naming the file.
        """
        return np.stack([self[index] for index in range(len(self))])

    def labels_here(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Resample labels of the scan [z, x, y] to this spacing, by nearest neighbour."""
        return _nearest(labels, self.shape)

    def labels_there(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Resample labels at this spacing [z, x, y] to the grid of the scan, by nearest neighbour."""
        return _nearest(labels, self.source.shape)

    def _in_plane(self, place: int) -> NDArray[np.float32]:
        if place not in self._read:
            # Earlier slices are not needed again.
            self._read = {key: values for key, values in self._read.items() if key == place - 1}
            values = self.source[place]
            for axis, (low, share) in enumerate(self._places[1:]):
                weight = share[:, None] if axis == 0 else share
                start = values.take(low, axis)
                end = values.take(np.minimum(low + 1, values.shape[axis] - 1), axis)
                values = np.asarray(start + weight * (end - start), dtype=np.float32)
            self._read[place] = values
        return self._read[place]


def _between(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each of `new` voxels over the length of `old`: the voxel before its centre, and the weight of the next."""
    centre = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.floor(centre).astype(np.intp)
    return low, (centre - low).astype(np.float32)


def _nearest(labels: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    for axis, new in enumerate(shape):
        old = labels.shape[axis]
        if old != new:
            labels = labels.take(np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1), axis)
    return labels
