"""Datasets for semantic segmentation, and the transforms of their samples."""

from pathlib import Path
from typing import Any

from resfu.data.base import Sample, SegmentationDataset, Transform
from resfu.data.generated.scenes import Scenes
from resfu.data.generated.volumes import CT, Cardiac
from resfu.data.labels.ade20k import ADE20K
from resfu.data.labels.camvid import CamVid
from resfu.data.labels.cityscapes import Cityscapes
from resfu.data.labels.folder import LabelFolder
from resfu.data.labels.pascal import PascalContext, PascalContext60, PascalVOC
from resfu.data.medical.acdc import ACDC
from resfu.data.medical.folder import VolumeFolder
from resfu.data.medical.synapse import Synapse
from resfu.data.registry import open_dataset

DATASETS: dict[str, type[SegmentationDataset]] = {
    "camvid": CamVid,
    "scenes": Scenes,
    "ade20k": ADE20K,
    "cityscapes": Cityscapes,
    "voc": PascalVOC,
    "pascal-context": PascalContext,
    "pascal-context-60": PascalContext60,
    "synapse": Synapse,
    "acdc": ACDC,
    "ct": CT,
    "cardiac": Cardiac,
    "folder": LabelFolder,
    "volume-folder": VolumeFolder,
}


def create_dataset(
    name: str, split: str, root: str | Path | None = None, transform: Transform | None = None, **options: Any
) -> SegmentationDataset:
    """Open a dataset by its name.

    Args:
        name: one of `DATASETS`, or "package.module:Class" for an importable class of your own.
        split: "train", "val", "test" or another split of that dataset.
        root: folder of the data; for generated datasets the cache folder.
        transform: called with each sample, see `SegmentationDataset`.
        options: further arguments of that dataset's class.

    Returns:
        The dataset.

    Raises:
        ValueError: for an unknown name, split or option; the message lists the known ones.
        FileNotFoundError: if the data are not at `root`; the message says where to get them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as cache:
    ...     scenes = create_dataset("scenes", "val", root=cache, count=2, size=(32, 48))
    >>> len(scenes), scenes.num_classes, scenes.classes[0]
    (2, 16, 'sky')
    """
    return open_dataset(DATASETS, name, split, root, transform, options)


__all__ = [
    "ACDC",
    "ADE20K",
    "CT",
    "DATASETS",
    "CamVid",
    "Cardiac",
    "Cityscapes",
    "LabelFolder",
    "PascalContext",
    "PascalContext60",
    "PascalVOC",
    "Sample",
    "Scenes",
    "SegmentationDataset",
    "Synapse",
    "Transform",
    "VolumeFolder",
    "create_dataset",
]
