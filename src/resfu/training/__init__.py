"""Training on Lightning: the task, its data, the schedule and the optimiser's groups."""

from resfu.training.datamodule import SegmentationData
from resfu.training.last_checkpoint import LastCheckpoint
from resfu.training.parameter_groups import Optimisation
from resfu.training.schedule import Schedule
from resfu.training.task import Inference, SegmentationTask

__all__ = ["Inference", "LastCheckpoint", "Optimisation", "Schedule", "SegmentationData", "SegmentationTask"]
