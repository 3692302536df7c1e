"""The checkpoint from which an interrupted training goes on."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class LastCheckpoint(Callback):
    """Overwrite one checkpoint at regular steps and at the last one.

    It is taken at the end of a step, where Lightning can go on exactly; a checkpoint taken after `Trainer.fit` has
    ended counts its last epoch twice.

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

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time."""
        step = trainer.global_step
        # With gradient accumulation several batches end in the same step: only the first closes it.
        if step != self.saved and (step % self.every == 0 or step >= trainer.estimated_stepping_batches):
            self.saved = step
            trainer.save_checkpoint(self.path)
