"""The base class of all semantic segmentation datasets."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from torch.utils.data import Dataset

from resfu.hosts.ignored import IGNORE_INDEX as IGNORE_INDEX

Sample = dict[str, Any]
Transform = Callable[[Sample], Sample]


class SegmentationDataset(Dataset[Sample], ABC):
    """Base of all datasets with one class label per pixel.

    A subclass sets `classes` and `palette` and writes `__len__` and `load`. An item is a dictionary with

    * "image": uint8 [3, H, W], a `torchvision.tv_tensors.Image`;
    * "label": int64 [H, W], a `torchvision.tv_tensors.Mask`, values 0 to num_classes - 1 or `ignore_index`;
    * "name": str, the sample's name in reports.

    Args:
        transform: called with that dictionary; what it returns is the item.
    """

    classes: ClassVar[tuple[str, ...]]
    palette: ClassVar[Tensor]  # uint8 [num_classes, 3], RGB
    ignore_index: ClassVar[int] = IGNORE_INDEX

    def __init__(self, transform: Transform | None = None) -> None:
        self.transform = transform

    @classmethod
    def describe(cls, root: str | Path | None, options: Mapping[str, Any]) -> tuple[tuple[str, ...], Tensor]:
        """The names and colours of the classes, without opening a split.

        A dataset without fixed classes reads them from its folder.

        Args:
            root: folder of the data.
            options: further arguments of the class.

        Returns:
            The class names in order, and the colours, uint8 [num_classes, 3].

        Raises:
            ValueError: if the dataset class does not set them.
        """
        if not hasattr(cls, "classes") or not hasattr(cls, "palette"):
            raise ValueError(f"the dataset {cls.__name__} must set classes, a tuple of names, and palette.")
        return cls.classes, cls.palette

    @property
    def num_classes(self) -> int:
        """Number of classes, without the ignored label."""
        return len(self.classes)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> Sample:
        """The sample at 0 <= index < len(self), before the transform."""

    def __getitem__(self, index: int) -> Sample:
        sample = self.load(self.checked_index(index))
        return sample if self.transform is None else self.transform(sample)

    def checked_index(self, index: int) -> int:
        """Turn a negative index, which counts from the end, into a positive one.

        Args:
            index: -len(self) <= index < len(self).

        Returns:
            The index, from 0 to len(self) - 1.

        Raises:
            IndexError: outside that range; it also ends an iteration over the dataset.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for a dataset of {len(self)} samples.")
        return index % len(self)
