"""One training of a comparison: begun, gone on with, or found finished."""

import json
import math
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from resfu.compare.folder import RunFolder
from resfu.compare.kinds import VOLUMES
from resfu.compare.objects import object_data, object_task
from resfu.compare.progress import Bar
from resfu.compare.settings import Settings
from resfu.compare.variants import parse_variant
from resfu.compare.volumes import volume_data
from resfu.compare.weights import Task
from resfu.data import DATASETS
from resfu.files.atomic import clear_drafts, write_json
from resfu.training import class_table, object_table
from resfu.training.checkpoint_files import WholeCheckpoints
from resfu.training.datamodule import SegmentationData
from resfu.training.detection import DetectionTask
from resfu.training.detection_data import DetectionData
from resfu.training.divergence import FiniteTraining
from resfu.training.interruption import interruptible
from resfu.training.parameter_groups import Optimisation
from resfu.training.quiet import known_warnings_ignored
from resfu.training.schedule import Schedule
from resfu.training.task import SegmentationTask

CHECKPOINT_EVERY = 50  # steps
VALIDATIONS = 4
_ENCODER_RATIO = 0.1  # learning rate of a pretrained encoder over that of the head


def create_task(settings: Settings, upsampler: str, seed: int) -> Task:
    """Build the network of one run with its initial weights.

    What the network has with every upsampler starts from the same numbers for the same seed, whatever the upsampler
    draws for itself: it is taken from the network with bilinear interpolation.

    Args:
        settings: of the comparison.
        upsampler: as in `Settings`.
        seed: of the weights and of the dropout.

    Returns:
        The task, untrained.
    """
    task, reference = (_seeded_task(settings, name, seed) for name in (upsampler, "bilinear"))
    own = task.host.state_dict()
    shared = {key: value for key, value in reference.host.state_dict().items() if key in own}
    task.host.load_state_dict(shared, strict=False)
    return task


def create_data(settings: Settings, seed: int, mean: Any, std: Any, workers: int) -> SegmentationData | DetectionData:
    """The batches of one run: the same for every upsampler.

    Args:
        settings: of the comparison.
        seed: of order and augmentation.
        mean: of the host's images.
        std: of the host's images.
        workers: processes that load.

    Returns:
        The data module.
    """
    if settings.kind.objects:
        return object_data(settings, seed, workers)
    if settings.kind is VOLUMES:
        return volume_data(settings, seed, mean, std, workers)
    assert settings.crop is not None
    scenes = settings.data == "scenes"
    full = settings.augment == "full"
    return SegmentationData(
        settings.data,
        mean=mean,
        std=std,
        root=settings.root,
        **settings.data_options,
        crop_size=settings.crop,
        scale_range=(0.5, 2.0) if full else (1.0, 1.0),
        photometric=full,
        batch_size=settings.batch_size,
        eval_batch_size=4 if scenes else 1,
        num_workers=workers,
        seed=seed,
    )


def run(
    settings: Settings,
    upsampler: str,
    seed: int,
    folder: RunFolder,
    workers: int,
    console: Console,
    validations: int = VALIDATIONS,
) -> dict[str, Any]:
    """Train and evaluate one network, from wherever an earlier call left it.

    Args:
        settings: of the comparison.
        upsampler: as in `Settings`.
        seed: of this run.
        folder: where it keeps its checkpoint, weights and metrics.
        workers: processes that load.
        console: shows the progress, when it is a terminal.
        validations: how often the validation split is measured, the last time after the training.

    Returns:
        The content of metrics.json.

    Raises:
        ValueError: when the loss or a weight is no longer finite.
        KeyboardInterrupt: the last checkpoint stays, and the next call goes on from it.
    """
    if folder.finished:
        return json.loads(folder.metrics.read_text("utf-8"))
    folder.path.mkdir(parents=True, exist_ok=True)
    clear_drafts(folder.path)
    task = create_task(settings, upsampler, seed)
    data = create_data(settings, seed, task.host.mean, task.host.std, workers)
    record = Record(folder, data.monitor)
    metric = settings.kind.metrics[record.metric]
    bar = Bar(f"{upsampler}, seed {seed}", settings.steps, console, data.monitor, metric)
    with known_warnings_ignored(), bar:
        trainer = Trainer(
            accelerator="cuda" if torch.cuda.is_available() else "cpu",
            devices=1,
            max_steps=settings.steps,
            # Never at the last step: the validation after the training is that one.
            val_check_interval=settings.steps // validations + 1,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            callbacks=[FiniteTraining(f"the training of {folder.path.name}", "Give a lower --lr."), record, bar],
            plugins=[WholeCheckpoints()],
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            logger=False,
        )
        with interruptible():
            trainer.fit(task, datamodule=data, ckpt_path=folder.checkpoint if folder.checkpoint.is_file() else None)
        with interruptible():
            trainer.validate(task, datamodule=data, verbose=False)
    trainer.save_checkpoint(folder.weights, weights_only=True)
    metrics = _finished(task, record, upsampler, seed)
    write_json(folder.metrics, metrics)
    folder.checkpoint.unlink(missing_ok=True)
    return metrics


class Record(Callback):
    """Curves and time of a training, and a checkpoint now and then; they survive an interruption.

    Args:
        folder: where the checkpoint goes.
        monitor: the metric of the validation that makes a curve, as the task logs it.
    """

    def __init__(self, folder: RunFolder, monitor: str) -> None:
        self.folder = folder
        self.monitor = monitor
        self.loss: list[list[float]] = []
        self.quality: list[list[float]] = []
        self.seconds = 0.0
        self._since = time.perf_counter()

    @property
    def metric(self) -> str:
        """The key of the monitored metric among a run's."""
        return self.monitor.removeprefix("val/")

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
        """Note the loss, and save at times."""
        self.seconds += time.perf_counter() - self._since
        self.loss.append([trainer.global_step, float(outputs["loss"])])
        if trainer.global_step % CHECKPOINT_EVERY == 0 or trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(self.folder.checkpoint)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the metric, unless there was nothing to measure."""
        value = float(trainer.callback_metrics[self.monitor])
        if not math.isnan(value):
            self.quality.append([trainer.global_step, value])


def _seeded_task(settings: Settings, upsampler: str, seed: int) -> Task:
    frozen = settings.freeze_encoder
    ratio = _ENCODER_RATIO if settings.pretrained and not frozen else 1.0
    optimisation = Optimisation(learning_rate=settings.learning_rate * ratio, head_multiplier=1 / ratio)
    schedule = Schedule(warmup_steps=min(20, settings.steps // 10))
    name, options = parse_variant(upsampler)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if settings.kind.objects:
            return object_task(settings, upsampler, seed, optimisation, schedule)
        return SegmentationTask(
            settings.host,
            name,
            num_classes=len(DATASETS[settings.data].classes),
            upsampler_options=options or None,
            pretrained=settings.pretrained,
            freeze_encoder=frozen,
            optimisation=optimisation,
            schedule=schedule,
            convention=settings.convention or "transunet",
            seed=seed,
        )


def _finished(task: Task, record: Record, upsampler: str, seed: int) -> dict[str, Any]:
    objects = isinstance(task, DetectionTask)
    means = (object_table if objects else class_table).headline(task.results)
    plain = object_table.plain_object_metrics(task.results) if objects else class_table.plain_metrics(task.results)
    return {
        "upsampler": upsampler,
        "seed": seed,
        "metrics": {key: None if math.isnan(value) else value for key, value in means.items()},
        **{key: value for key, value in plain.items() if not isinstance(value, float | None)},
        "curves": {"loss": record.loss, record.metric: record.quality},
        "training_seconds": round(record.seconds, 1),
    }
