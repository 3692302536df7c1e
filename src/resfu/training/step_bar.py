"""The progress of a training in steps."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class StepBar(RichProgressBar):
    """Optimiser steps done of those of the whole training.

    Lightning's own bar counts the batches of an epoch, and shows -2 as the last epoch where steps set the length.
    """

    @property
    def total_train_batches(self) -> int | float:
        """Steps of the training; infinite where only time ends it."""
        return self.trainer.estimated_stepping_batches

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the bar with the first epoch; later ones go on in it."""
        if self.train_progress_bar_id is None:
            super().on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step and what is logged."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, trainer.global_step - 1)

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"
