"""The procedural volumes as datasets of slices."""

import functools
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from resfu.data.base import Sample, Transform
from resfu.data.generated.seeding import check_sampling
from resfu.data.generated.store import Arrays, GeneratedStore, default_cache_dir
from resfu.data.generated.volumes import cardiac, ct
from resfu.data.generated.volumes.fields import Size, checked_volume_size
from resfu.data.image_files import UnreadableFileError
from resfu.data.medical.acdc import ACDC
from resfu.data.medical.base import SliceDataset
from resfu.data.medical.geometry import Geometry
from resfu.data.medical.nifti import scale_window
from resfu.data.medical.synapse import Synapse
from resfu.data.medical.volume_files import VolumeFile

# Part of the cache's path: raise it whenever a generator's output changes.
VERSION = 1
CARDIAC_PHASES: tuple[cardiac.Phase, ...] = ("ED", "ES")


class _ProceduralSlices(SliceDataset):
    """Arguments, cache and repair of the cache, shared by both generated data sets."""

    title: ClassVar[str]  # also the folder in the cache
    counts: ClassVar[dict[str, int]]
    smallest: ClassVar[Size]
    frames: ClassVar[tuple[str, ...]]  # suffixes of the volumes of one index
    # A slice is [y, x], with y from front to back and x from the patient's right to the left; z is from feet to head.
    assumed = Geometry("PLS")

    def __init__(
        self,
        split: str,
        root: str | Path | None,
        size: Sequence[int],
        count: int | None,
        seed: int,
        transform: Transform | None,
    ) -> None:
        check_sampling(self.title, split, count, seed)
        checked = checked_volume_size(size, self.smallest)
        base = default_cache_dir() / self.title if root is None else Path(root)
        folder = base / f"v{VERSION}-{'x'.join(map(str, checked))}-seed{seed}" / split
        indices = range(self.counts[split] if count is None else count)
        names = [f"{split}{index:04d}{frame}" for index in indices for frame in self.frames]
        make = functools.partial(self.make, seed, split, checked)
        self._store = GeneratedStore(folder, names, make)
        self._store.fill(f"{self.title}, {split}")
        volumes = [VolumeFile(path, "image", checked[0]) for path in self._store.paths]
        labels = {number: number for number in range(self.num_classes)}
        super().__init__(volumes, labels, "Delete it: it will be generated again.", transform, geometry=self.assumed)

    @staticmethod
    @abstractmethod
    def make(seed: int, split: str, size: Size, place: int) -> Arrays:
        """The volume at an index of the store: "image", float32 [D, H, W], 0..1, and "label", uint8."""

    def _read(self, volume: VolumeFile, index: int) -> Sample:
        try:
            return super()._read(volume, index)
        except UnreadableFileError as error:
            warnings.warn(f"{error} It is generated again.", stacklevel=4)
            self._store.write(self.volumes.index(volume))
            return super()._read(volume, index)


class CT(_ProceduralSlices):
    """Slices of procedural abdominal CT, with the classes of `Synapse`; values -125 to 275 HU as 0 to 1.

    A slice is [y, x], from front to back and from the patient's right to the left, upwards: the orientation "PLS".

    A volume depends on (seed, split, index, size) alone. Volumes are generated when the dataset is first opened, and
    cached on disk. A larger `count` adds to the volumes of a smaller one.

    Args:
        split: "train", "val" or "test"; the volumes of different splits are independent.
        root: cache folder; default: $RESFU_CACHE/ct, or ~/.cache/resfu/ct if that is not set.
        size: (D, H, W) of a volume, at least 4 x 32 x 32; each gives D samples.
        count: number of volumes; default: 12 for "train", 4 for the others.
        seed: 0 or more.
        transform: see `SegmentationDataset`.

    Raises:
        ValueError: for an argument outside its range.
        OSError: if the cache folder cannot be written.
    """

    classes = Synapse.classes
    palette = Synapse.palette
    title = "ct"
    counts: ClassVar[dict[str, int]] = {"train": 12, "val": 4, "test": 4}
    smallest = ct.SMALLEST
    frames = ("",)

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        size: Sequence[int] = (24, 128, 128),
        count: int | None = None,
        seed: int = 0,
        transform: Transform | None = None,
    ) -> None:
        super().__init__(split, root, size, count, seed, transform)

    @staticmethod
    def make(seed: int, split: str, size: Size, place: int) -> Arrays:
        """Generate a volume with `ct_volume` and scale its values."""
        values, label = ct.ct_volume(seed, split, place, size)
        return {"image": scale_window(values), "label": label}


class Cardiac(_ProceduralSlices):
    """Slices of procedural cardiac MRI, with the classes of `ACDC`; each volume's values as 0 to 1.

    A slice is [y, x], from front to back and from the patient's right to the left, upwards: the orientation "PLS".

    A volume depends on (seed, split, index, phase, size) alone. Volumes are generated when the dataset is first opened,
    and cached on disk. A larger `count` adds to the volumes of a smaller one.

    Args:
        split: "train", "val" or "test"; the hearts of different splits are independent.
        root: cache folder; default: $RESFU_CACHE/cardiac, or ~/.cache/resfu/cardiac if that is not set.
        size: (D, H, W) of a volume, at least 2 x 32 x 32; each gives D samples.
        count: number of hearts, two volumes each (ED and ES); default: 20 for "train", 8 for the others.
        seed: 0 or more.
        transform: see `SegmentationDataset`.

    Raises:
        ValueError: for an argument outside its range.
        OSError: if the cache folder cannot be written.
    """

    classes = ACDC.classes
    palette = ACDC.palette
    title = "cardiac"
    counts: ClassVar[dict[str, int]] = {"train": 20, "val": 8, "test": 8}
    smallest = cardiac.SMALLEST
    frames = tuple(f"_{phase}" for phase in CARDIAC_PHASES)

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        size: Sequence[int] = (10, 128, 128),
        count: int | None = None,
        seed: int = 0,
        transform: Transform | None = None,
    ) -> None:
        super().__init__(split, root, size, count, seed, transform)

    @staticmethod
    def make(seed: int, split: str, size: Size, place: int) -> Arrays:
        """Generate a volume with `cardiac_volume` and scale its values."""
        index, phase = divmod(place, len(CARDIAC_PHASES))
        values, label = cardiac.cardiac_volume(seed, split, index, CARDIAC_PHASES[phase], size)
        image = scale_window(values, (float(values.min()), float(values.max())))
        return {"image": image.astype(np.float32), "label": label}
