"""The checkpoint from which an interrupted training continues."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from resfu.training.checkpoint_files import read_checkpoint

_MOST = 500  # steps that an interruption may lose, unless told otherwise


class LastCheckpoint(Checkpoint):
    """Overwrite one checkpoint at regular steps and at the last one.

    The checkpoint is saved at the end of a step, where Lightning can resume exactly; in a checkpoint saved after
    `Trainer.fit`, the last epoch would be counted twice. If a validation follows the step, the checkpoint is saved
    again after it: resuming does not repeat the validation, so curves and the best score must be in the checkpoint.
    Therefore this callback has to come after those that keep them, including `ModelCheckpoint`.

    Args:
        path: the file of the checkpoint.
        every: number of optimiser steps between two saves. Default: a tenth of the training, at most 500.

    Raises:
        ValueError: for less than one step.
    """

    def __init__(self, path: str | Path, every: int | None = None) -> None:
        if every is not None and every < 1:
            raise ValueError(f"the steps between two checkpoints must be at least 1, got {every}.")
        self.path = Path(path)
        self.every = every
        self.saved = 0  # the step of the last save
        self.planned: float = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the planned length of the training."""
        self.planned = trainer.estimated_stepping_batches
        if self.every is None:
            self.every = max(1, int(min(_MOST, self.planned / 10)))

    def state_dict(self) -> dict[str, Any]:
        """The state that `read_progress` needs."""
        return {"planned": self.planned}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time."""
        step = trainer.global_step
        assert self.every is not None
        # With gradient accumulation several batches belong to the same step; save only once.
        if step != self.saved and (step % self.every == 0 or step >= trainer.estimated_stepping_batches):
            self.saved = step
            trainer.save_checkpoint(self.path)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save again if the validation belongs to the step of the last save."""
        if not trainer.sanity_checking and self.saved and trainer.global_step == self.saved:
            trainer.save_checkpoint(self.path)


def read_progress(path: Path) -> tuple[int, float]:
    """The progress of a training at a checkpoint.

    Args:
        path: the file of the checkpoint.

    Returns:
        The number of optimiser steps done, and the planned number; 0 if the latter is unknown, because `LastCheckpoint`
        was not among the callbacks.

    Raises:
        ValueError: for a file that is not a complete checkpoint.
    """
    content = read_checkpoint(path, mmap=True)
    return content["global_step"], content["callbacks"].get(LastCheckpoint.__qualname__, {}).get("planned", 0)
