"""The tasks by name, and the choice of the task for a network and a data set."""

from resfu.hosts import find_host
from resfu.tasks.base import Task
from resfu.tasks.distillation import Distillation
from resfu.tasks.instances import Instances
from resfu.tasks.label_maps import LabelMaps
from resfu.tasks.panoptic import Panoptic
from resfu.tasks.volumes import Volumes

TASKS: dict[str, Task] = {task.name: task for task in (LabelMaps(), Volumes(), Instances(), Panoptic())}

DISTILLATION = Distillation()  # of `resfu distill` alone


def task_of(host: str, dataset: str) -> Task:
    """The task for a network and a data set.

    Args:
        host: a key of `resfu.HOSTS`, or "package.module:function". If the network is not for semantic segmentation, the
            attribute `task` of the function names the task.
        dataset: name of the data set.

    Raises:
        ValueError: for an unknown name, data without the labels that the network trains on, or a package that the task
            needs and that is not installed.
    """
    host_task = getattr(find_host(host), "task", None) or LabelMaps.name
    for task in TASKS.values():
        if task.trains(host_task, dataset):
            task.check_data(host, dataset)
            return task
    known = dict.fromkeys(name for task in TASKS.values() for name in (task.host_tasks or (task.name,)))
    raise ValueError(f"{host} is for an unknown task {host_task!r}: its `task` must be one of {', '.join(known)}.")


__all__ = ["DISTILLATION", "TASKS", "Task", "task_of"]
