"""One training of a comparison: start it, resume it, or read its finished results."""

import math
from typing import Any

from rich.console import Console

from resfu.compare.comparison import Comparison
from resfu.files.atomic import read_json, write_json
from resfu.tasks.run import RunFolder, console_progress, train
from resfu.training.interruption import interruptible
from resfu.training.progress import TrainingProgress
from resfu.training.quiet import known_warnings_ignored
from resfu.training.record import Record
from resfu.training.scores import plain


def train_one(comparison: Comparison, upsampler: str, seed: int, folder: RunFolder, console: Console) -> dict[str, Any]:
    """Train and evaluate one network; an interrupted training resumes.

    Args:
        comparison: of the training.
        upsampler: one of its upsamplers.
        seed: one of its seeds.
        folder: for checkpoint, weights and metrics.
        console: shows the progress.

    Returns:
        The content of metrics.json.

    Raises:
        ValueError: if the loss is no longer finite.
        KeyboardInterrupt: on Ctrl-C; the next call resumes from the last checkpoint.
    """
    if folder.finished:
        return read_json(folder.metrics)
    experiment = comparison.experiment(upsampler, seed)
    record = Record(experiment.task.monitor)
    progress: TrainingProgress = console_progress(experiment, console, f"{upsampler}, seed {seed}")
    checkpoint = folder.last if folder.last.is_file() else None
    trained = train(
        experiment, folder, checkpoint=checkpoint, callbacks=[record], progress=progress, logs=False, devices=1
    )
    # Not needed if the training validated at its last step.
    if not (record.quality and record.quality[-1][0] == trained.trainer.global_step and trained.module.results):
        with known_warnings_ignored(), interruptible():
            trained.trainer.validate(trained.module, datamodule=trained.data, verbose=False)
    trained.trainer.save_checkpoint(folder.weights, weights_only=True)
    module = trained.module
    metrics = {
        "upsampler": upsampler,
        "seed": seed,
        "metrics": {key: None if math.isnan(value) else value for key, value in module.headline().items()},
        **{key: value for key, value in plain(module.results).items() if not isinstance(value, float | None)},
        "curves": {"loss": record.loss, record.monitor.key: record.quality},
        "training_seconds": round(record.seconds, 1),
    }
    write_json(folder.metrics, metrics)
    folder.last.unlink(missing_ok=True)
    return metrics
