"""The tasks by name, and which of them a network and a data set make."""

import importlib.util

from resfu.data import DATASETS
from resfu.data.coco import INSTANCE_DATASETS
from resfu.data.medical.base import SliceDataset
from resfu.data.registry import find_dataset
from resfu.hosts import DETECTION_HOSTS, PANOPTIC_HOSTS, find_host
from resfu.tasks.base import Task
from resfu.tasks.distillation import Distillation
from resfu.tasks.instances import Instances
from resfu.tasks.label_maps import LabelMaps
from resfu.tasks.panoptic import Panoptic
from resfu.tasks.volumes import Volumes

TASKS: dict[str, Task] = {task.name: task for task in (LabelMaps(), Volumes(), Instances(), Panoptic())}

DISTILLATION = Distillation()  # no network of its own and no labels: `fit`, `compare` and `predict` do not take it


def task_of(host: str, dataset: str) -> Task:
    """The task that a network and its data make.

    Args:
        host: a key of `resfu.HOSTS`, or "package.module:function"; the attribute `task` of such a function names its
            task where that is not label maps.
        dataset: name of the data set.

    Raises:
        ValueError: for an unknown name, data without the labels that the network trains on, or a package that the task
            needs and that is not installed.
    """
    factory = find_host(host)
    own = getattr(factory, "task", LabelMaps.name)
    if host not in DETECTION_HOSTS and own in (LabelMaps.name, Volumes.name):
        if dataset in INSTANCE_DATASETS and dataset not in DATASETS:
            raise ValueError(
                f"{dataset} labels objects, which {host} does not find: choose a host from "
                f"{', '.join(DETECTION_HOSTS)}."
            )
        slices = issubclass(find_dataset(DATASETS, dataset), SliceDataset)
        return TASKS[Volumes.name if slices else LabelMaps.name]
    if importlib.util.find_spec("pycocotools") is None:
        raise ValueError(f'{host} needs pycocotools, which is not installed: pip install "resfu[coco]"')
    if dataset not in INSTANCE_DATASETS and ":" not in dataset:
        raise ValueError(
            f"{host} finds objects, which {dataset} does not label: choose data from {', '.join(INSTANCE_DATASETS)}."
        )
    return TASKS[Panoptic.name if host in PANOPTIC_HOSTS or own == Panoptic.name else Instances.name]


__all__ = ["DISTILLATION", "TASKS", "Task", "task_of"]
