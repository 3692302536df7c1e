"""One bar for a training and its validations."""

from typing import Any, Self

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar(Callback):
    """Steps done of a training, the last loss and quality; shown on terminals only, gone when it ends.

    Args:
        title: of the training.
        steps: of the training.
        console: where it is drawn.
        monitor: the metric of the validation to show, as the task logs it.
        metric: what to call it.
    """

    def __init__(self, title: str, steps: int, console: Console, monitor: str, metric: str) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}"),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._title = title
        self._steps = steps
        self._monitor, self._metric = monitor, metric
        self._words = {"loss": "", monitor: ""}
        self._task = self._progress.add_task(title, total=steps, words="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step and its loss."""
        self._words["loss"] = f"loss {float(outputs['loss']):.3f}"
        self._show(self._title, self._steps, trainer.global_step)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the progress of a validation."""
        self._show(f"{self._title}, validation", int(sum(trainer.num_val_batches)), batch_idx + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the quality."""
        value = float(trainer.callback_metrics[self._monitor])
        self._words[self._monitor] = f"{self._metric} {value:.1f}"

    def _show(self, title: str, total: int, done: int) -> None:
        words = "  ".join(filter(None, self._words.values()))
        self._progress.update(self._task, description=title, total=total, completed=done, words=words)
