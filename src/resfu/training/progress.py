"""The progress of a training: a bar on a terminal, or a line from time to time in a file."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from resfu.training.scores import Score


class TrainingProgress(Callback):
    """Shows the steps done of the whole training, the last loss and the last validation.

    Lightning's own bar counts the batches of an epoch, and shows -2 as the last epoch if the length is set in steps.

    Args:
        console: where the progress is shown.
        monitor: the validation score to show.
        title: title of the training.
        every: seconds between two lines if the console is not a terminal; None for no lines.
    """

    def __init__(self, console: Console, monitor: Score, title: str = "training", every: float | None = 10.0) -> None:
        self._console = console
        self._monitor = monitor
        self._title = title
        self._every = every
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._row = self._bar.add_task(title, total=None, words="")
        self._words = {"loss": "", "score": ""}
        self._absent: list[str] = []
        self._total: float = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar in the first process."""
        if trainer.is_global_zero:
            self._bar.start()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the length of the training, the start time and the first step."""
        self._total = trainer.estimated_stepping_batches
        self._began = self._said = time.monotonic()
        self._first = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step and its loss."""
        if not trainer.is_global_zero:
            return
        self._words["loss"] = f"loss {float(outputs['loss']):.3f}"
        self._show(self._title, self._total, trainer.global_step)
        now, step = time.monotonic(), trainer.global_step
        if self._every is not None and not self._console.is_terminal and now - self._said >= self._every:
            self._said = now
            rate = trainer.optimizers[0].param_groups[-1]["lr"]
            per_step = (now - self._began) / max(1, step - self._first)
            self._say(
                f"step {step} of {self._total:g}, {self._words['loss']}, learning rate {rate:.2g}, "
                f"{_clock((self._total - step) * per_step)} left"
            )

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
        self._show(f"{self._title}, validation", sum(trainer.num_val_batches), batch_idx + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the score."""
        value = trainer.callback_metrics.get(f"val/{self._monitor.key}")
        if value is None or not trainer.is_global_zero:
            return
        self._words["score"] = f"{self._monitor.title} {float(value):.1f}"
        if self._every is not None and not self._console.is_terminal and not trainer.sanity_checking:
            self._say(f"step {trainer.global_step}: {self._words['score']} on the validation split")
        absent = getattr(pl_module, "absent", [])
        if self._every is not None and not trainer.sanity_checking and absent != self._absent:
            self._absent = absent
            if absent:
                names = ", ".join(map(repr, absent))
                self._say(f"no pixel of the validated images has the label {names}; 255 is ignored")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the terminal back."""
        self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._bar.stop()

    def _show(self, title: str, total: float, done: int) -> None:
        words = "  ".join(filter(None, self._words.values()))
        self._bar.update(self._row, description=title, total=total, completed=done, words=words)

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    """Format seconds as hours, minutes and seconds, such as 1:02:03; "?" for infinity."""
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
