"""Run one training, from the start or from a checkpoint. `fit`, `compare` and `reproduce` all train here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console

from resfu.files.atomic import write_text
from resfu.recipes import listed
from resfu.tasks.experiment import BaseExperiment
from resfu.training.data import TrainingData
from resfu.training.denormals import denormals_flushed
from resfu.training.divergence import FiniteTraining
from resfu.training.interruption import interruptible
from resfu.training.last_checkpoint import LastCheckpoint, read_progress
from resfu.training.module import TrainingModule
from resfu.training.progress import TrainingProgress
from resfu.training.quiet import known_warnings_ignored
from resfu.training.run_folder import kept_folder

_AGAINST_DIVERGENCE = (
    "Give a lower --lr or --trainer.gradient_clip_val 1; where the loss was fine, --trainer.precision 32-true."
)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one training, and the files in it."""

    path: Path

    @property
    def last(self) -> Path:
        """The state of the training, from which it is resumed."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The network with the best validation score."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def weights(self) -> Path:
        """The trained network of a run of `compare`, without the optimiser's state."""
        return self.path / "weights.ckpt"

    @property
    def metrics(self) -> Path:
        """The results after the training. They are written last, so a run of `compare` with this file is finished."""
        return self.path / "metrics.json"

    @property
    def config(self) -> Path:
        """All settings of the training, in the form of a recipe."""
        return self.path / "config.yaml"

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return self.metrics.is_file()

    @property
    def state(self) -> str:
        """The state of the run, in words for messages."""
        if self.finished:
            return "finished before"
        return "goes on from its checkpoint" if self.last.is_file() else "begins"


@dataclass(frozen=True)
class Trained:
    """The objects of a finished training."""

    module: TrainingModule
    data: TrainingData
    trainer: Trainer


@denormals_flushed()
def train(
    experiment: BaseExperiment[Any],
    folder: RunFolder,
    *,
    checkpoint: Path | None = None,
    callbacks: Sequence[Callback] = (),
    progress: TrainingProgress | None = None,
    logs: bool = True,
    **trainer: Any,
) -> Trained:
    """Train a network to the end.

    Only one process at a time can work in the folder. The training writes `config.yaml`, and `checkpoints/last.ckpt`
    every `save_every` steps and at the end. With `logs` it also writes `checkpoints/best.ckpt` and `logs/`.

    Args:
        experiment: the settings of the training.
        folder: folder of its files.
        checkpoint: checkpoint from which to resume; None to start from the beginning.
        callbacks: callbacks in addition to those of this function.
        progress: shows the progress; None for no display.
        logs: keep curves in CSV and TensorBoard, and the best network.
        trainer: arguments of the Trainer that take precedence over the settings.

    Raises:
        ValueError: for invalid settings, a folder that already contains a training or in which another process works,
            or weights or a loss that are no longer finite.
        KeyboardInterrupt: on Ctrl-C; the last checkpoint is kept.
    """
    # A checkpoint contains all weights, so the encoder's pretrained weights need not be fetched.
    module = (experiment if checkpoint is None else experiment.with_weights()).create_module()
    data = experiment.create_data(module)
    settings = experiment.settings["trainer"]
    saved = settings["enable_checkpointing"] is not False and not settings["fast_dev_run"]
    guard = FiniteTraining("the training", _AGAINST_DIVERGENCE, folder.last.parent)
    own: list[Callback] = [guard, *callbacks]
    if not settings["fast_dev_run"]:
        own.append(_SaveConfig(experiment, folder))
    if progress is not None and settings["enable_progress_bar"] is not False:
        own.append(progress)
    loggers: Any = False
    if logs and settings["logger"] is not False:
        own.append(LearningRateMonitor("step"))
        # Every start of the run gets its own version folder, so that the curves of an interrupted run are kept.
        table = CSVLogger(folder.path, "logs")
        loggers = [table, TensorBoardLogger(folder.path, "logs", version=table.version)]
    if logs and saved:
        monitor = experiment.task.monitor
        mode = "min" if monitor.lower_is_better else "max"
        name = folder.best.stem
        own.append(
            ModelCheckpoint(
                folder.best.parent, name, monitor=f"val/{monitor.key}", mode=mode, enable_version_counter=False
            )
        )
    if saved:  # last, with the best score in it
        own.append(LastCheckpoint(folder.last, experiment.settings["save_every"]))
    changes = {
        "enable_progress_bar": False,
        "default_root_dir": str(folder.path),
        "enable_checkpointing": saved,
        **({"logger": loggers} if settings["logger"] in (None, False, True) else {}),
        **trainer,
    }
    done = 0 if checkpoint is None else read_progress(checkpoint)[0]
    with known_warnings_ignored(), interruptible():
        runner = experiment.create_trainer(own, **changes)
        with kept_folder(folder.path, runner, done):
            if checkpoint is None and folder.last.exists():
                raise ValueError(
                    f"{folder.path} holds a run already: resume it with --checkpoint last, or choose another folder "
                    "by --run."
                )
            runner.fit(module, datamodule=data, ckpt_path=None if checkpoint is None else str(checkpoint))
    return Trained(module, data, runner)


def console_progress(experiment: BaseExperiment[Any], console: Console, title: str = "training") -> TrainingProgress:
    """Make the progress display of an experiment."""
    return TrainingProgress(console, experiment.task.monitor, title)


class _SaveConfig(Callback):
    """Writes config.yaml into the run's folder, after the data and a given checkpoint have been loaded."""

    def __init__(self, experiment: BaseExperiment[Any], folder: RunFolder) -> None:
        self._experiment = experiment
        self._folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        write_text(self._folder.config, yaml.safe_dump(listed(self._experiment.settings), sort_keys=False))
