"""Evaluation of volumes: the cases of a data set of slices, predicted slice by slice and scored as a whole."""

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from resfu.data import Sample
from resfu.data.image_files import UnreadableFileError
from resfu.data.medical.base import SliceDataset
from resfu.data.medical.volume_files import VolumeFile
from resfu.evaluation.volume_inference import predict_volume
from resfu.evaluation.volumes import VolumeMetrics

# case0005_slice012 of Synapse, case_001_sliceED_3 of ACDC
_SLICE_NAME = re.compile(r"(?P<case>.+)_slice(?P<frame>[A-Z]*)_?(?P<index>\d+)")


class Volume(ABC):
    """A volume of D slices for `predict_volume`, which reads one slice at a time.

    It is not a dataclass, because Lightning would take a dataclass apart when it moves a batch to a device.

    Args:
        name: name of the case.
        on_error: what to do about a damaged file: "raise", or "skip" the volume with a message.
    """

    # Called with (slices done, D) after each slice, for a progress bar.
    on_slice: Callable[[int, int], object] | None = None

    def __init__(self, name: str, on_error: str) -> None:
        self.name = name
        self.on_error = on_error

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...

    def predict(self, predict_slice: Callable[[Tensor], Tensor], size: int, device: torch.device) -> NDArray[np.uint8]:
        """The labels [D, H, W], see `predict_volume`."""
        return predict_volume(predict_slice, self, size, device, self.on_slice)


class Case(Volume):
    """A labelled volume of a data set, from one file or from the files of its slices.

    Args:
        name: name of the case.
        dataset: the data set.
        files: the case's files, in order.
    """

    def __init__(self, name: str, dataset: SliceDataset, files: list[VolumeFile]) -> None:
        super().__init__(name, dataset.on_error)
        self.dataset = dataset
        self.files = files
        self._places = [(file, index) for file in files for index in range(len(file))]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        file, place = self._places[index]
        return file[place]

    def classes(self) -> NDArray[np.uint8]:
        """The label [D, H, W]."""
        return np.concatenate([self.dataset.classes_of(file) for file in self.files])

    def score(
        self,
        metrics: VolumeMetrics,
        predict_slice: Callable[[Tensor], Tensor],
        size: int,
        device: torch.device,
    ) -> None:
        """Predict the case and score it; with on_error="skip" a damaged case is left out with a warning.

        Raises:
            UnreadableFileError: naming the file.
        """
        try:
            prediction, label = self.predict(predict_slice, size, device), self.classes()
        except UnreadableFileError as error:
            if self.on_error == "raise":
                raise
            warnings.warn(f"{error} The case {self.name} is left out.", stacklevel=2)
            return
        metrics.update(self.name, prediction, label)


def label_volume(
    volume: Volume, predict_slice: Callable[[Tensor], Tensor], size: int, device: torch.device
) -> dict[str, Any]:
    """Predict a volume.

    Returns:
        "labels", uint8 [D, H, W]; or "error", a message, for a damaged file with on_error="skip".

    Raises:
        UnreadableFileError: naming the file.
    """
    try:
        return {"labels": volume.predict(predict_slice, size, device)}
    except UnreadableFileError as error:
        if volume.on_error == "raise":
            raise
        return {"error": str(error)}


def normalising(
    network: Callable[[Tensor], Tensor], mean: Sequence[float], std: Sequence[float]
) -> Callable[[Tensor], Tensor]:
    """Add the normalisation of slices, with the network's mean and standard deviation, before a network.

    Args:
        network: images [B, 3, H, W] -> logits.
        mean: mean of each channel.
        std: standard deviation of each channel.
    """

    def predict_slice(images: Tensor) -> Tensor:
        centre, scale = (images.new_tensor(values).view(3, 1, 1) for values in (mean, std))
        return network((images - centre) / scale)

    return predict_slice


class Cases(Dataset[Sample]):
    """The cases of a data set of slices; single slices are grouped into cases by their names.

    Args:
        dataset: a data set of slices.
        size: the size at which the network gets a slice.
    """

    def __init__(self, dataset: SliceDataset, size: int) -> None:
        self.size = size
        groups: dict[str, dict[int, VolumeFile]] = {}
        for place, file in enumerate(dataset.volumes):
            found = _SLICE_NAME.fullmatch(file.name) if file.depth == 1 else None
            if found is None:
                groups[file.name] = {place: file}
            else:
                name = "_".join(filter(None, found.group("case", "frame")))
                groups.setdefault(name, {})[int(found["index"])] = file
        self.cases = [Case(name, dataset, [files[i] for i in sorted(files)]) for name, files in groups.items()]

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Sample:
        """One case as a batch: "volume", "name", and "input_size", the size at which the network gets a slice."""
        case = self.cases[index]
        return {"volume": case, "name": case.name, "input_size": self.size}
