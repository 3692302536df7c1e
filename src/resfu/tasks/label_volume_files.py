"""Writing of predicted label volumes of scans."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from rich.progress import Progress

from resfu.tasks.scans import Scan
from resfu.tasks.writing import PredictionWriter


class LabelVolumeWriter(PredictionWriter):
    """Writes each predicted label volume under the name of its scan, and shows the progress in slices.

    Args:
        folder: folder for the files; created if needed.
        bar: show a progress bar on stderr, if it is a terminal.

    Raises:
        OSError: when the folder or a file cannot be written.
        ValueError: for the folder of a scan itself; at the end, if no scan could be read.
    """

    kind = "scan"

    def __init__(self, folder: str | Path, bar: bool = True) -> None:
        super().__init__(folder)
        console = Console(stderr=True)
        self._bar = Progress(console=console, disable=not (bar and console.is_terminal))

    def begin(self, trainer: Any, module: Any) -> None:
        """Make the folder and start the bars."""
        super().begin(trainer, module)
        self._bar.start()

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin a bar."""
        if "volume" not in batch:
            return
        scan: Scan = batch["volume"]
        if self._target(scan).resolve() == scan.path.resolve():
            raise ValueError(f"the labels of {scan.path} would overwrite it: choose another --output.")
        for finished in self._bar.task_ids:
            self._bar.remove_task(finished)
        row = self._bar.add_task(scan.name, total=len(scan))
        scan.on_slice = lambda done, total: self._bar.update(row, completed=done)

    def write(self, batch: dict[str, Any], found: Any, module: Any) -> list[Path]:
        """Write the labels of a scan."""
        scan: Scan = batch["volume"]
        self._target(scan).parent.mkdir(parents=True, exist_ok=True)
        scan.write(found["labels"], self._target(scan))
        return [self._target(scan)]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the terminal back, and finish."""
        self._bar.stop()
        super().on_predict_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._bar.stop()

    def _target(self, scan: Scan) -> Path:
        return self.folder / scan.name
