"""What the modules of all tasks share: a network with an upsampler, its losses, its metrics and its optimiser."""

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
    """Base of the tasks' modules. Its arguments are the hyper-parameters that a checkpoint keeps.

    A subclass calls `save_hyperparameters(plain_arguments(locals()))` and writes the abstract methods below. Its
    constructor takes the settings of "model" and `seed`: among them `host` (a name), `upsampler`, `upsampler_options`,
    `pretrained`, `freeze_encoder`, `optimisation` and `schedule`, which checkpoints, comparisons and the report read.

    Attributes:
        scores: what is measured.
        encoder_prefix: what the names of the encoder's parameters begin with, in the network.
        metrics: gathers a split, such as a `resfu.evaluation.dataset_metric.DatasetMetric`; None before there is one to
            measure against. `compute()` gives a float under the key of each score and a tensor [K] under its
            `by_class`, `reset()` begins again.
        results: of the last validation or test, as the metrics compute them.

    Args:
        host: the network.
        optimisation: optimiser, learning rates, weight decay.
        schedule: the curve of the learning rate.
        freeze_encoder: leave the encoder as it is: no gradients, and evaluation mode (BatchNorm statistics included).
        seed: of the network's own randomness during training, such as dropout.
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
        """The part of the network that `freeze_encoder` leaves as it is."""
        return self.host.get_submodule(self.encoder_prefix.rstrip("."))

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """What the rows of the table of classes are called; none where nothing is classified."""

    @abstractmethod
    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """What training minimises, by the names under which it is logged: the sum of these scalars.

        Args:
            batch: as the data module makes it: "image" and what belongs to it.
        """

    @abstractmethod
    def measure(self, batch: dict[str, Any]) -> None:
        """Predict a batch of the validation or test split, and give prediction and label to `metrics`."""

    @abstractmethod
    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        """What `resfu predict` writes of a batch of files: the task's writer gets it.

        Args:
            batch: of the data module's `open_files`; one may have an "error" in place of an image.
            batch_idx: its number.
        """

    @abstractmethod
    def predict(self, image: str | Path | Picture) -> Any:
        """What the network says of a photo, by its path or as uint8 [H, W, 3]."""

    @abstractmethod
    def picture(self, image: Tensor) -> Picture | None:
        """What the network says of an image [3, H, W] as it takes it, uint8 [H, W, 3]; None without known colours."""

    def forward(self, images: Any) -> Any:
        """What the network makes of images."""
        return self.host(images)

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode. A frozen encoder is always in the latter."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make what the network draws a function of the step, so that a resumed run repeats an uninterrupted one."""
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
        """Measure a batch of the validation split, or several of images that differ in size."""
        for part in batch if isinstance(batch, list) else [batch]:
            self.measure(part)

    def test_step(self, batch: dict[str, Any] | list[dict[str, Any]], batch_idx: int) -> None:
        """The same of the test split."""
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
        """The last validation or test class by class, for `rich.print`."""
        return class_table(self.scores, self.results, self.class_names)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser with its groups, and the schedule, stepped with it."""
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
        # All processes hold the same reduced numbers; sync_dist only tells Lightning that this is known.
        self.log_dict(scalars, sync_dist=True, prog_bar=prefix == "val")
