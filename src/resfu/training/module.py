"""The base class of all tasks' modules: a network with an upsampler, its losses, its metrics and its optimiser."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import rich
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from rich.table import Table
from torch import Tensor, nn

from resfu.training.arguments import as_options
from resfu.training.loader import derive_seed
from resfu.training.parameter_groups import Optimisation, create_optimizer
from resfu.training.schedule import Schedule, poly_scheduler
from resfu.training.scores import Score, class_table, headline
from resfu.visualize.picture import Picture


class TrainingModule(LightningModule, ABC):
    """Base class of the tasks' modules. Its arguments are the hyper-parameters that a checkpoint keeps.

    A subclass calls `save_hyperparameters(plain_arguments(locals()))` and implements the abstract methods below. Its
    constructor takes the settings of "model", and `seed`. These include `host` (a name), `upsampler`,
    `upsampler_options`, `pretrained`, `freeze_encoder`, `optimisation` and `schedule`, which are read by checkpoints,
    comparisons and the report.

    Attributes:
        scores: the scores that are measured.
        encoder_prefix: beginning of the names of the encoder's parameters in the network.
        metrics: accumulates results over a split, such as a `resfu.evaluation.dataset_metric.DatasetMetric`; None if
            there is no split yet. `compute()` returns a float under the key of each score and a tensor [K] under its
            `by_class`; `reset()` starts again.
        results: the results of the last validation or test, as the metrics compute them.

    Args:
        host: the network.
        optimisation: optimiser, learning rates, weight decay.
        schedule: the curve of the learning rate.
        freeze_encoder: do not train the encoder: no gradients, and evaluation mode (also for BatchNorm statistics).
        seed: seed of the network's own randomness during training, such as dropout.
    """

    scores: ClassVar[tuple[Score, ...]]
    encoder_prefix: ClassVar[str] = "encoder."

    def __init__(
        self,
        host: nn.Module,
        optimisation: Optimisation | Mapping[str, Any],
        schedule: Schedule | Mapping[str, Any],
        freeze_encoder: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.host: Any = host
        self.optimisation = as_options(Optimisation, optimisation)
        self.schedule = as_options(Schedule, schedule)
        self.freeze_encoder = freeze_encoder
        self.seed = seed
        self.metrics: Any = None
        self.results: dict[str, Any] = {}
        if freeze_encoder:
            self.encoder.requires_grad_(False)
            self.train()

    @property
    def encoder(self) -> nn.Module:
        """The part of the network that `freeze_encoder` freezes."""
        return self.host.get_submodule(self.encoder_prefix.rstrip("."))

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """Names for the rows of the table of classes; empty for a task without classes."""

    @abstractmethod
    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Compute the losses, scalars by the names under which they are logged; training minimises their sum.

        Args:
            batch: a batch of the data module: "image" and its annotations.
        """

    @abstractmethod
    def measure(self, batch: dict[str, Any]) -> None:
        """Predict a batch of the validation or test split, and update `metrics` with predictions and labels."""

    @abstractmethod
    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        """Predict a batch of files for `resfu predict`; the task's writer writes the result.

        Args:
            batch: a batch of the data module's `open_files`; it may have an "error" in place of an image.
            batch_idx: number of the batch.
        """

    @abstractmethod
    def predict(self, image: str | Path | Picture) -> Any:
        """The network's prediction for a photo, given by its path or as uint8 [H, W, 3]."""

    @abstractmethod
    def picture(self, image: Tensor) -> Picture | None:
        """A picture, uint8 [H, W, 3], of the prediction for a network input [3, H, W]; None without known colours."""

    def forward(self, images: Any) -> Any:
        """Run the network on images."""
        return self.host(images)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; a frozen encoder always stays in evaluation mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the network's random numbers by the step, so that a resumed run equals an uninterrupted one."""
        torch.manual_seed(derive_seed(self.seed, self.global_step, batch_idx, self.global_rank))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        losses = self.losses(batch)
        loss = torch.stack(list(losses.values())).sum()
        log = partial(self.log, sync_dist=True, batch_size=len(batch["image"]))
        log("train/loss", loss, prog_bar=True)
        if len(losses) > 1:
            for name, value in losses.items():
                log(f"train/{name}", value)
        return loss

    def validation_step(self, batch: dict[str, Any] | list[dict[str, Any]], batch_idx: int) -> None:
        """Measure a batch of the validation split, or a list of batches with images of different sizes."""
        for part in batch if isinstance(batch, list) else [batch]:
            self.measure(part)

    def test_step(self, batch: dict[str, Any] | list[dict[str, Any]], batch_idx: int) -> None:
        """Measure a batch of the test split, see `validation_step`."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the whole split."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the whole split and print them class by class."""
        self._finish("test")
        if self.trainer.is_global_zero:
            rich.print(self.table())

    def headline(self) -> dict[str, float]:
        """The means of the last validation or test."""
        return headline(self.scores, self.results)

    def table(self) -> Table:
        """The results of the last validation or test, class by class, for `rich.print`."""
        return class_table(self.scores, self.results, self.class_names)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser with its parameter groups, and the schedule, which steps with it."""
        optimizer = create_optimizer(self.host, self.optimisation, self.encoder_prefix)
        steps = self.schedule.total_steps or self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise ValueError("an endless training needs schedule.total_steps, or set the trainer's max_steps.")
        scheduler = poly_scheduler(optimizer, self.schedule, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _finish(self, prefix: str) -> None:
        if self.metrics is None:
            raise ValueError("there is nothing to measure against: give the trainer a data module.")
        self.results = self.metrics.compute()
        self.metrics.reset()
        scalars = {f"{prefix}/{key}": value for key, value in self.headline().items()}
        # All processes already have the same reduced numbers; sync_dist only avoids Lightning's warning.
        self.log_dict(scalars, sync_dist=True, prog_bar=prefix == "val")
