"""The checkpoint from which an interrupted training goes on."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from resfu.training.checkpoint_files import read_checkpoint


class LastCheckpoint(Checkpoint):
    """Overwrite one checkpoint at regular steps and at the last one.

    It is taken at the end of a step, where Lightning can go on exactly; a checkpoint taken after `Trainer.fit` has
    ended counts its last epoch twice. Where a validation follows the step, the checkpoint is taken again after it:
    resuming does not validate once more, so curves and the best score must be in it. For this it has to come after the
    callbacks that keep them, `ModelCheckpoint` included.

    Args:
        path: of the checkpoint.
        every: optimiser steps between two saves.

    Raises:
        ValueError: for less than one step.
    """

    def __init__(self, path: str | Path, every: int = 500) -> None:
        if every < 1:
            raise ValueError(f"the steps between two checkpoints must be at least 1, got {every}.")
        self.path = Path(path)
        self.every = every
        self.saved = 0  # the step of the last save
        self.planned: float = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note how long the training is going to be."""
        self.planned = trainer.estimated_stepping_batches

    def state_dict(self) -> dict[str, Any]:
        """What `read_progress` needs."""
        return {"planned": self.planned}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time."""
        step = trainer.global_step
        # With gradient accumulation several batches end in the same step: only the first closes it.
        if step != self.saved and (step % self.every == 0 or step >= trainer.estimated_stepping_batches):
            self.saved = step
            trainer.save_checkpoint(self.path)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save again what the step of the last save has come to."""
        if not trainer.sanity_checking and self.saved and trainer.global_step == self.saved:
            trainer.save_checkpoint(self.path)


def read_progress(path: Path) -> tuple[int, float]:
    """How far a training had come at a checkpoint.

    Args:
        path: of the checkpoint.

    Returns:
        The optimiser steps that were done, and those that the training was to have: 0 where that is not known, since
        `LastCheckpoint` was not among the callbacks.

    Raises:
        ValueError: for a file that is no whole checkpoint.
    """
    content = read_checkpoint(path, mmap=True)
    return content["global_step"], content["callbacks"].get(LastCheckpoint.__qualname__, {}).get("planned", 0)
