"""The parts of a training that all tasks share: optimisation, schedule, batches, checkpoints and progress."""

from resfu.training.last_checkpoint import LastCheckpoint
from resfu.training.parameter_groups import Optimisation
from resfu.training.schedule import Schedule
from resfu.training.scores import Score

__all__ = ["LastCheckpoint", "Optimisation", "Schedule", "Score"]
