"""The tasks by name, and which of them a network and a data set make."""

from resfu.data import DATASETS
from resfu.data.coco import INSTANCE_DATASETS
from resfu.data.medical.base import SliceDataset
from resfu.data.registry import find_dataset
from resfu.hosts import DETECTION_HOSTS, find_host
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
        host: a key of `resfu.HOSTS`, or "package.module:function"; the attribute `task` of the function names the
            task, where a network does not label pixels.
        dataset: name of the data set.

    Raises:
        ValueError: for an unknown name, data without the labels that the network trains on, or a package that the task
            needs and that is not installed.
    """
    name = getattr(find_host(host), "task", None)
    if name in (None, LabelMaps.name, Volumes.name):
        if dataset in INSTANCE_DATASETS and dataset not in DATASETS:
            raise ValueError(
                f"{dataset} labels objects, which {host} does not find: choose a host from "
                f"{', '.join(DETECTION_HOSTS)}."
            )
        slices = issubclass(find_dataset(DATASETS, dataset), SliceDataset)
        return TASKS[Volumes.name if slices else LabelMaps.name]
    if name not in TASKS:
        raise ValueError(f"{host} is for an unknown task {name!r}: its `task` must be one of {', '.join(TASKS)}.")
    TASKS[name].check_data(host, dataset)
    return TASKS[name]


__all__ = ["DISTILLATION", "TASKS", "Task", "task_of"]
