"""The recorded curves of a training."""

import math
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from resfu.training.scores import Score


class Record(Callback):
    """Records loss, validations and time of a training; they are part of checkpoints and so survive interruptions.

    Args:
        monitor: the validation score to record.
    """

    def __init__(self, monitor: Score) -> None:
        self.monitor = monitor
        self.loss: list[list[float]] = []
        self.quality: list[list[float]] = []
        self.seconds = 0.0
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"loss": list(self.loss), "quality": list(self.quality), "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the curves of a checkpoint."""
        self.loss, self.quality, self.seconds = state_dict["loss"], state_dict["quality"], state_dict["seconds"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock: validation does not count as training."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss."""
        self.seconds += time.perf_counter() - self._since
        self.loss.append([trainer.global_step, float(outputs["loss"])])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the score, unless nothing was measured."""
        if trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics.get(f"val/{self.monitor.key}", math.nan))
        if not math.isnan(value):
            self.quality.append([trainer.global_step, value])
