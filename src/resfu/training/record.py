"""The curves of a training."""

import math
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from resfu.training.scores import Score


class Record(Callback):
    """Loss, validations and time of a training; a checkpoint keeps them, so that they survive an interruption.

    Args:
        monitor: the score of the validation that makes a curve.
    """

    def __init__(self, monitor: Score) -> None:
        self.monitor = monitor
        self.loss: list[list[float]] = []
        self.quality: list[list[float]] = []
        self.seconds = 0.0
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this."""
        return {"loss": list(self.loss), "quality": list(self.quality), "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves of a checkpoint."""
        self.loss, self.quality, self.seconds = state_dict["loss"], state_dict["quality"], state_dict["seconds"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock: validation does not count as training."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss."""
        self.seconds += time.perf_counter() - self._since
        self.loss.append([trainer.global_step, float(outputs["loss"])])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the score, unless there was nothing to measure."""
        if trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics.get(f"val/{self.monitor.key}", math.nan))
        if not math.isnan(value):
            self.quality.append([trainer.global_step, value])
