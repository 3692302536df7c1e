"""Semantic segmentation as a LightningModule: one host, its loss, its metrics, its optimiser."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, Self

import rich
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from resfu.data.base import IGNORE_INDEX
from resfu.evaluation.inference import predict, resize_logits
from resfu.evaluation.labels import predict_labels
from resfu.evaluation.semantic import SemanticMetrics
from resfu.evaluation.volumes import Convention, VolumeMetrics
from resfu.hosts import create_host
from resfu.training.class_table import class_table, headline
from resfu.training.loader import derive_seed
from resfu.training.losses import segmentation_loss
from resfu.training.options import as_options
from resfu.training.parameter_groups import Optimisation, create_optimizer
from resfu.training.schedule import Schedule, poly_scheduler
from resfu.training.volumes import create_metrics, label_volume, normalising


@dataclass(frozen=True)
class Inference:
    """How an image passes the network at validation, test and prediction; see `resfu.evaluation.inference.predict`.

    Args:
        mode: "whole" or "slide".
        crop_size: (height, width) of the window of "slide".
        stride: (vertical, horizontal) step of the window.
    """

    mode: Literal["whole", "slide"] = "whole"
    crop_size: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None


class SegmentationTask(LightningModule):
    """Train, measure and apply a segmentation host.

    A batch is a dictionary: "image" float [B, 3, H, W], normalised; "label" int64 [B, H, W], 255 = ignored; "name", a
    list of str. A data module of volumes gives volumes to all but the training, and these are scored by Dice and HD95.
    The arguments are the hyper-parameters that a checkpoint keeps.

    Args:
        host: a key of `resfu.HOSTS`.
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of classes, up to 255: the label 255 is ignored, and label maps are uint8.
        upsampler_options: further constructor arguments of the upsampler.
        pretrained: False, True or a path: where the encoder's weights come from, see `resfu.create_host`.
        freeze_encoder: leave the encoder as it is: no gradients, and evaluation mode (BatchNorm statistics included).
        loss_average: the divisor of the cross entropy: "valid" counts the labelled pixels, "all" every pixel.
        optimisation: optimiser, learning rates, weight decay.
        schedule: the curve of the learning rate.
        inference: how an image passes the network outside training.
        convention: what an organ scores that is not in both volumes, see `VolumeMetrics`.
        seed: of the network's own randomness (dropout) during training.

    Raises:
        ValueError: for an unknown host or upsampler, too many classes or a bad option.
    """

    def __init__(
        self,
        host: str = "segformer-mit-b0",
        upsampler: str = "resfu",
        num_classes: int = 150,
        upsampler_options: dict[str, Any] | None = None,
        pretrained: bool | str = False,
        freeze_encoder: bool = False,
        loss_average: Literal["valid", "all"] = "valid",
        optimisation: Optimisation = Optimisation(),  # noqa: B008 (frozen, safe to share)
        schedule: Schedule = Schedule(),  # noqa: B008
        inference: Inference = Inference(),
        convention: Convention = "transunet",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.optimisation = as_options(Optimisation, optimisation)
        self.schedule = as_options(Schedule, schedule)
        self.inference = as_options(Inference, inference)
        self.freeze_encoder = freeze_encoder
        self.loss_average: Literal["valid", "all"] = loss_average
        self.seed = seed
        # Plain values, so that a checkpoint loads with weights_only=True.
        self.save_hyperparameters(
            {
                "host": host,
                "upsampler": upsampler,
                "num_classes": num_classes,
                "upsampler_options": upsampler_options,
                "pretrained": pretrained,
                "freeze_encoder": freeze_encoder,
                "loss_average": loss_average,
                "optimisation": asdict(self.optimisation),
                "schedule": asdict(self.schedule),
                "inference": asdict(self.inference),
                "convention": convention,
                "seed": seed,
            }
        )
        self.host = create_host(
            host, upsampler, num_classes=num_classes, pretrained=pretrained, upsampler_options=upsampler_options
        )
        if num_classes > IGNORE_INDEX:
            raise ValueError(
                f"num_classes must be at most {IGNORE_INDEX}, got {num_classes}: the label {IGNORE_INDEX} is ignored, "
                "and label maps are uint8."
            )
        if freeze_encoder:
            self.host.encoder.requires_grad_(False)
            self.train()
        self.convention: Convention = convention
        self.metrics: SemanticMetrics | VolumeMetrics = SemanticMetrics(num_classes)
        self.results: dict[str, Any] = {}  # of the last validation or test
        self.classes = tuple(f"class {i}" for i in range(num_classes))
        self.palette: list[list[int]] | None = None  # RGB of each class, where a data set gave it

    @property
    def image_mean(self) -> tuple[float, float, float]:
        """Mean per channel of the images that the encoder expects, for values in 0..1."""
        return self.host.mean

    @property
    def image_std(self) -> tuple[float, float, float]:
        """Standard deviation per channel of the images that the encoder expects, for values in 0..1."""
        return self.host.std

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes, H, W] of normalised images [B, 3, H, W]."""
        return self.host(images)

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode. A frozen encoder is always in the latter."""
        super().train(mode)
        if self.freeze_encoder:
            self.host.encoder.eval()
        return self

    def setup(self, stage: str) -> None:
        """Take over from the data module the names and colours of the classes, and what is measured."""
        data = getattr(self.trainer, "datamodule", None)
        classes = getattr(data, "classes", None)
        if classes is not None and len(classes) != len(self.classes):
            raise ValueError(
                f"num_classes is {len(self.classes)} in the network and {len(classes)} in the data set: set it to that."
            )
        if stage != "predict" and data is not None and classes is not None:
            self.classes, self.palette = tuple(classes), data.palette.tolist()
        if getattr(data, "volumetric", False):
            self.metrics = create_metrics(len(self.classes), self.convention)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make the step's dropout a function of the step, so that a resumed run repeats an uninterrupted one."""
        torch.manual_seed(derive_seed(self.seed, self.global_step, batch_idx, self.global_rank))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of a batch: what the host minimises, summed."""
        cross_entropy = partial(segmentation_loss, average=self.loss_average)
        losses = self.host.losses(batch["image"], batch["label"], cross_entropy)
        loss = torch.stack(list(losses.values())).sum()
        log = partial(self.log, sync_dist=True, batch_size=len(batch["image"]))
        log("train/loss", loss, prog_bar=True)
        if len(losses) > 1:
            for name, value in losses.items():
                log(f"train/loss_{name}", value)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count a batch's pixels, or score a volume."""
        if isinstance(self.metrics, VolumeMetrics):
            batch["volume"].score(self.metrics, self._slice_network(), batch["input_size"], self.device)
        else:
            self.metrics.update(self._label_map(batch["image"], batch["label"].shape[-2:]), batch["label"])

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """As at validation."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the whole split."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the whole split and print them class by class."""
        self._finish("test")
        if self.trainer.is_global_zero:
            rich.print(class_table(self.results, self.classes))

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """ "label_map" [B, H, W] uint8 on the CPU; nothing for a batch that holds an "error" in place of an image.

        H and W are the batch's "size", that of the photo's file, or else the image's. For a volume: see `label_volume`.
        """
        if "error" in batch:
            return {}
        if "volume" in batch:
            return label_volume(batch["volume"], self._slice_network(), batch["input_size"], self.device)
        images, options = batch["image"], self.inference
        size = batch.get("size", images.shape[-2:])
        label_map = predict_labels(self.host, images, size, options.mode, options.crop_size, options.stride)
        return {"label_map": label_map.cpu()}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser with its groups, and the schedule, stepped with it."""
        optimizer = create_optimizer(self.host, self.optimisation)
        steps = self.schedule.total_steps or self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise ValueError("an endless training needs schedule.total_steps, or set the trainer's max_steps.")
        scheduler = poly_scheduler(optimizer, self.schedule, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the names and colours of the classes, for pictures made without the data set."""
        checkpoint["classes"] = list(self.classes)
        checkpoint["palette"] = self.palette

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the names and colours of the classes."""
        self.classes = tuple(checkpoint.get("classes", self.classes))
        self.palette = checkpoint.get("palette")

    def _logits(self, images: Tensor) -> Tensor:
        options = self.inference
        return predict(self.host, images, options.mode, options.crop_size, options.stride)

    def _label_map(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        return resize_logits(self._logits(images), size).argmax(1)

    def _slice_network(self) -> Callable[[Tensor], Tensor]:
        return normalising(self._logits, self.image_mean, self.image_std)

    def _finish(self, prefix: str) -> None:
        self.results = self.metrics.compute()
        self.metrics.reset()
        scalars = {f"{prefix}/{key}": value for key, value in headline(self.results).items()}
        # All processes hold the same reduced numbers; sync_dist only tells Lightning that this is known.
        self.log_dict(scalars, sync_dist=True, prog_bar=prefix == "val")
