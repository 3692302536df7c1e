"""The output folder of a comparison: what lies where."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from resfu.compare.settings import Settings, check_same
from resfu.files.atomic import write_json


@dataclass(frozen=True)
class RunFolder:
    """Where one training keeps its things."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """State of an unfinished training."""
        return self.path / "unfinished.ckpt"

    @property
    def weights(self) -> Path:
        """Lightning checkpoint of the trained network, without the optimiser's state."""
        return self.path / "weights.ckpt"

    @property
    def metrics(self) -> Path:
        """Written last: a run that has it is finished."""
        return self.path / "metrics.json"

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.metrics.is_file() and self.weights.is_file()

    @property
    def state(self) -> str:
        """In words what an earlier call did here; empty for nothing."""
        if self.finished:
            return "finished before"
        return "goes on from its checkpoint" if self.checkpoint.is_file() else ""


class OutputFolder:
    """The folder that `resfu compare` fills.

    Args:
        path: made with its parents when it is not there.

    Raises:
        OSError: when it cannot be made or written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise OSError(
                f"cannot write to the output folder {self.path} ({error.strerror}): give another --output."
            ) from error

    @property
    def settings(self) -> Path:
        """The settings that the runs were begun with."""
        return self.path / "settings.json"

    @property
    def sheets(self) -> Path:
        """Folder of the PNG sheets."""
        return self.path / "sheets"

    def run(self, upsampler: str, seed: int) -> RunFolder:
        """The folder of one training."""
        return RunFolder(self.path / "runs" / f"{upsampler}-seed{seed}")

    def check(self, settings: Settings) -> None:
        """Refuse to go on with another experiment.

        Raises:
            ValueError: for a folder that holds a comparison with other settings.
        """
        if self.settings.is_file():
            check_same(json.loads(self.settings.read_text("utf-8")), settings.to_dict(), self.path)

    def begin(self, settings: Settings, overwrite: bool = False) -> None:
        """Claim the folder for an experiment, or go on with the one that is there.

        Args:
            settings: of this call.
            overwrite: remove what an earlier comparison wrote there, and begin again.

        Raises:
            ValueError: for a folder that holds a comparison with other settings.
        """
        if overwrite and self.settings.is_file():
            self._clear()
        self.check(settings)
        write_json(self.settings, settings.to_dict())

    def _clear(self) -> None:
        """Remove what a comparison wrote, and nothing else that may lie there, such as runs of `resfu fit`."""
        runs = self.path / "runs"
        for run in runs.glob("*-seed*"):
            if any((run / name).is_file() for name in ("metrics.json", "weights.ckpt", "unfinished.ckpt")):
                shutil.rmtree(run)
        for sheet in self.sheets.glob("*.png"):
            sheet.unlink()
        for folder in (runs, self.sheets):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        for name in ("settings.json", "results.json", "table.md", "report.html"):
            (self.path / name).unlink(missing_ok=True)
