"""Datasets for instance and panoptic segmentation: COCO, and the procedural scenes with items of the same form.

COCO's masks need the extra `coco`.
"""

from pathlib import Path
from typing import Any

from resfu.data.base import Transform
from resfu.data.coco.base import (
    Category,
    InstanceDataset,
    ObjectDataset,
    ObjectTarget,
    PanopticDataset,
    Segment,
    collate,
)
from resfu.data.coco.instances import CocoInstances
from resfu.data.coco.panoptic import CocoPanoptic
from resfu.data.coco.scenes import SceneInstances, ScenePanoptic
from resfu.data.registry import open_dataset

INSTANCE_DATASETS: dict[str, type[InstanceDataset]] = {"scenes": SceneInstances, "coco": CocoInstances}
PANOPTIC_DATASETS: dict[str, type[PanopticDataset]] = {"scenes": ScenePanoptic, "coco": CocoPanoptic}


def create_instance_dataset(
    name: str, split: str, root: str | Path | None = None, transform: Transform | None = None, **options: Any
) -> InstanceDataset:
    """Open an instance segmentation dataset by its name.

    Args:
        name: one of `INSTANCE_DATASETS`.
        split: "train" or "val"; "scenes" has "test" too.
        root: folder of the data; "scenes" is generated and takes it as its cache folder.
        transform: called with each sample, see `ObjectDataset`.
        options: further arguments of that dataset's class.

    Returns:
        The dataset.

    Raises:
        ValueError: for an unknown name, split or option; the message lists the known ones.
        FileNotFoundError: if the data are not at `root`; the message says where to get them.
    """
    return open_dataset(INSTANCE_DATASETS, name, split, root, transform, options)


def create_panoptic_dataset(
    name: str, split: str, root: str | Path | None = None, transform: Transform | None = None, **options: Any
) -> PanopticDataset:
    """Open a panoptic dataset, one of `PANOPTIC_DATASETS`; otherwise like `create_instance_dataset`."""
    return open_dataset(PANOPTIC_DATASETS, name, split, root, transform, options)


__all__ = [
    "INSTANCE_DATASETS",
    "PANOPTIC_DATASETS",
    "Category",
    "CocoInstances",
    "CocoPanoptic",
    "InstanceDataset",
    "ObjectDataset",
    "ObjectTarget",
    "PanopticDataset",
    "SceneInstances",
    "ScenePanoptic",
    "Segment",
    "collate",
    "create_instance_dataset",
    "create_panoptic_dataset",
]
