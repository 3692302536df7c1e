"""What the writers of predictions of all tasks share."""

from pathlib import Path

from lightning.pytorch import Callback


class PredictionWriter(Callback):
    """Base class of the callbacks that write predictions into a folder.

    A subclass writes three hooks of Lightning: `on_predict_start` calls `make_folder` and refuses names that are
    taken (`resfu.tasks.files.check_output`), `on_predict_batch_end` writes what `predict_step` found and adds the file
    to `written`, or the batch's "error" to `skipped`, and `on_predict_end` calls `check_written`.

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

    def make_folder(self, name: str = "") -> None:
        """Make the folder, with a subfolder if wanted, before the work begins.

        Raises:
            OSError: when it cannot be made.
        """
        try:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make the folder {self.folder} ({error.strerror}): choose another.") from error

    def check_written(self) -> None:
        """Refuse a run of which not one file could be read.

        Raises:
            ValueError: with the first reason.
        """
        if not self.written and self.skipped:
            reason = self.skipped[0].rstrip(".")
            raise ValueError(f"no {self.kind} could be read, of {len(self.skipped)}; {reason}.")
