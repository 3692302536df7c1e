"""The layout of a comparison's output folder."""

import shutil
import tempfile
from pathlib import Path

from resfu.compare.comparison import Comparison, check_same
from resfu.files.atomic import read_json, write_json
from resfu.tasks.run import RunFolder


class OutputFolder:
    """The output folder of `resfu compare`.

    Args:
        path: created with its parents if missing.

    Raises:
        OSError: if it cannot be created or written.
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
        """The settings that the runs were started with."""
        return self.path / "settings.json"

    @property
    def sheets(self) -> Path:
        """Folder of the PNG sheets."""
        return self.path / "sheets"

    def run(self, upsampler: str, seed: int) -> RunFolder:
        """The folder of one training."""
        return RunFolder(self.path / "runs" / f"{upsampler}-seed{seed}")

    def check(self, comparison: Comparison) -> None:
        """Raise a ValueError if the folder holds a comparison with other settings."""
        if self.settings.is_file():
            check_same(read_json(self.settings), comparison.to_dict(), self.path)

    def begin(self, comparison: Comparison, overwrite: bool = False) -> None:
        """Claim the folder for a comparison, or resume the one in it.

        Args:
            comparison: of this call.
            overwrite: remove the files of an earlier comparison, and start again.

        Raises:
            ValueError: for a folder that holds a comparison with other settings.
        """
        if overwrite and self.settings.is_file():
            self._clear()
        self.check(comparison)
        write_json(self.settings, comparison.to_dict())

    def _clear(self) -> None:
        """Remove the files of a comparison, but nothing else, such as runs of `resfu fit`."""
        runs = self.path / "runs"
        for run in runs.glob("*-seed*"):
            if any((run / name).is_file() for name in ("metrics.json", "weights.ckpt", "config.yaml")):
                shutil.rmtree(run)
        for sheet in self.sheets.glob("*.png"):
            sheet.unlink()
        for folder in (runs, self.sheets):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        for name in ("settings.json", "results.json", "table.md", "report.html"):
            (self.path / name).unlink(missing_ok=True)
