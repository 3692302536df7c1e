"""The base class of the callbacks that write predictions."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class PredictionWriter(Callback, ABC):
    """Base class of the callbacks that write predictions into a folder.

    A subclass implements `write`, and `begin` and `finish` if it has more to do before the first or after the last
    batch.

    Attributes:
        kind: word for the inputs in messages: "image" or "scan".
        written: the files written so far.
        skipped: messages about files that could not be read.

    Args:
        folder: the folder; created if needed.
    """

    kind = "image"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.written: list[Path] = []
        self.skipped: list[str] = []

    def begin(self, trainer: Any, module: Any) -> None:
        """Create the folder. Subclasses also check that no input is overwritten, see `resfu.tasks.files.check_output`.

        Args:
            trainer: the trainer, whose `datamodule` has the files, `predicted`.
            module: the network's module.
        """
        self.make_folder()

    @abstractmethod
    def write(self, batch: dict[str, Any], found: Any, module: Any) -> list[Path]:
        """Write the predictions of a batch.

        Args:
            batch: a batch of the data module's `open_files`.
            found: the result of the module's `predict_step`.
            module: the network's module.

        Returns:
            The written files.
        """

    def finish(self) -> None:
        """Write the files that belong to all batches."""

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self.begin(trainer, pl_module)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write a batch, or record the error of a file that could not be read, from the batch or the result."""
        error = batch.get("error") or (isinstance(outputs, dict) and outputs.get("error"))
        if error:
            self.skipped.append(error)
        else:
            self.written += self.write(batch, outputs, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish; refuse a run in which no file could be read.

        Raises:
            ValueError: if no file could be read; the message has the first reason.
        """
        if not self.written and self.skipped:
            reason = self.skipped[0].rstrip(".")
            raise ValueError(f"no {self.kind} could be read, of {len(self.skipped)}; {reason}.")
        self.finish()

    def make_folder(self, name: str = "") -> None:
        """Create the folder, or a subfolder of it, before the work begins.

        Raises:
            OSError: when it cannot be made.
        """
        try:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make the folder {self.folder} ({error.strerror}): choose another.") from error
