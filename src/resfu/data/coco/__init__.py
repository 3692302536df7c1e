"""Datasets for instance and panoptic segmentation: COCO, and the procedural scenes with the same items.

The extra `coco` brings what reads and writes COCO's masks.
"""

import inspect
from pathlib import Path
from typing import Any, TypeVar

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

INSTANCE_DATASETS: dict[str, type[InstanceDataset]] = {"scenes": SceneInstances, "coco": CocoInstances}
PANOPTIC_DATASETS: dict[str, type[PanopticDataset]] = {"scenes": ScenePanoptic, "coco": CocoPanoptic}

D = TypeVar("D", bound=ObjectDataset)


def create_instance_dataset(
    name: str, split: str, root: str | Path | None = None, transform: Transform | None = None, **options: Any
) -> InstanceDataset:
    """Open a dataset of instances by its name.

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
        FileNotFoundError: where the data are not at `root`; the message says where to get them.
    """
    return _create(INSTANCE_DATASETS, name, split, root, transform, options)


def create_panoptic_dataset(
    name: str, split: str, root: str | Path | None = None, transform: Transform | None = None, **options: Any
) -> PanopticDataset:
    """Open a panoptic dataset by its name: one of `PANOPTIC_DATASETS`, the rest as `create_instance_dataset` says."""
    return _create(PANOPTIC_DATASETS, name, split, root, transform, options)


def _create(
    datasets: dict[str, type[D]],
    name: str,
    split: str,
    root: str | Path | None,
    transform: Transform | None,
    options: dict[str, Any],
) -> D:
    if name not in datasets:
        raise ValueError(f"unknown dataset {name!r}; choose one of {', '.join(sorted(datasets))}.")
    dataset = datasets[name]
    known = [key for key in inspect.signature(dataset).parameters if key not in ("split", "root", "transform")]
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(f"dataset {name!r} has no option {', '.join(unknown)}; its options are {', '.join(known)}.")
    return dataset(split=split, root=root, transform=transform, **options)  # pyright: ignore[reportCallIssue]


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
