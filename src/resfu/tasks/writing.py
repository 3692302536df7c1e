"""What the writers of predictions of all tasks share."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class PredictionWriter(Callback, ABC):
    """Base class of the callbacks that write predictions into a folder.

    A subclass writes `write`, and `begin` and `finish` where more is to be done before the first batch and after the
    last.

    Attributes:
        kind: what is predicted, for messages: "image" or "scan".
        written: the files so far.
        skipped: messages on the files that could not be read.

    Args:
        folder: made when it is not there.
    """

    kind = "image"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.written: list[Path] = []
        self.skipped: list[str] = []

    def begin(self, trainer: Any, module: Any) -> None:
        """Make the folder. A subclass refuses here what would be overwritten, see `resfu.tasks.files.check_output`.

        Args:
            trainer: its `datamodule` has the files, `predicted`.
            module: the network's.
        """
        self.make_folder()

    @abstractmethod
    def write(self, batch: dict[str, Any], found: Any, module: Any) -> list[Path]:
        """Write what was found in a batch.

        Args:
            batch: of the data module's `open_files`.
            found: what the module's `predict_step` gave for it.
            module: the network's.

        Returns:
            The files.
        """

    def finish(self) -> None:
        """Write what belongs to all batches."""

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
        """Write a batch, or note the file that could not be read: then batch or result holds an "error"."""
        error = batch.get("error") or (isinstance(outputs, dict) and outputs.get("error"))
        if error:
            self.skipped.append(error)
        else:
            self.written += self.write(batch, outputs, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish; refuse a run of which not one file could be read.

        Raises:
            ValueError: with the first reason.
        """
        if not self.written and self.skipped:
            reason = self.skipped[0].rstrip(".")
            raise ValueError(f"no {self.kind} could be read, of {len(self.skipped)}; {reason}.")
        self.finish()

    def make_folder(self, name: str = "") -> None:
        """Make the folder, with a subfolder if wanted, before the work begins.

        Raises:
            OSError: when it cannot be made.
        """
        try:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make the folder {self.folder} ({error.strerror}): choose another.") from error
