"""Instance and panoptic segmentation as a LightningModule: one host, its losses, its metrics, its optimiser."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Self

import rich
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from resfu.data.coco import Category, InstanceDataset, ObjectDataset
from resfu.evaluation.instances import Engine, InstanceMetrics
from resfu.evaluation.panoptic import PanopticMetrics
from resfu.hosts import DETECTION_HOSTS, HOSTS, PANOPTIC_HOSTS
from resfu.training.loader import derive_seed
from resfu.training.object_table import headline, object_table
from resfu.training.options import as_options
from resfu.training.parameter_groups import Optimisation, create_optimizer
from resfu.training.schedule import Schedule, poly_scheduler

_ENCODER = "backbone.body."
_GIVEN = ("upsampler", "num_classes", "stuff_classes", "pretrained", "upsampler_options")


class DetectionTask(LightningModule):
    """Train, measure and apply a host that finds objects.

    A batch is a dictionary of lists, one entry an image: "image" float [3, H, W] in 0..1 and "target" as the hosts take
    it; at validation a panoptic host also needs "ids" and "segments". `DetectionData` makes them. The arguments are the
    hyper-parameters that a checkpoint keeps.

    Args:
        host: one of `resfu.hosts.DETECTION_HOSTS`.
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: kinds of things.
        stuff_classes: kinds of stuff, for a panoptic host.
        upsampler_options: further constructor arguments of the upsampler.
        host_options: further constructor arguments of the host, such as `min_size`.
        pretrained: False, True or a path: where the encoder's weights come from, see `resfu.create_host`.
        freeze_encoder: leave all of the encoder as it is: no gradients, and evaluation mode (BatchNorm statistics
            included). The host's own `frozen` fixes its first layers and its normalisation.
        optimisation: optimiser, learning rates, weight decay; the encoder is the ResNet without its pyramid.
        schedule: the curve of the learning rate.
        engine: what measures mask AP, see `InstanceMetrics`.
        boundary: also measure boundary AP.
        seed: of the network's own randomness during training: which proposals count, which size an image gets.

    Raises:
        ValueError: for an unknown host or upsampler or a bad option.
    """

    def __init__(
        self,
        host: str = "mask-rcnn-resnet50",
        upsampler: str = "resfu",
        num_classes: int = 80,
        stuff_classes: int = 53,
        upsampler_options: dict[str, Any] | None = None,
        host_options: dict[str, Any] | None = None,
        pretrained: bool | str = False,
        freeze_encoder: bool = False,
        optimisation: Optimisation = Optimisation(),  # noqa: B008 (frozen, safe to share)
        schedule: Schedule = Schedule(),  # noqa: B008
        engine: Engine = "pycocotools",
        boundary: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.optimisation = as_options(Optimisation, optimisation)
        self.schedule = as_options(Schedule, schedule)
        self.freeze_encoder = freeze_encoder
        self.engine: Engine = engine
        self.boundary = boundary
        self.seed = seed
        options = _checked_options(host, host_options)
        if options.get("frozen") is None:
            # The host's own rule, written down: a checkpoint's weights are loaded into a network made without others.
            options["frozen"] = pretrained is not False
        # Plain values, so that a checkpoint loads with weights_only=True.
        self.save_hyperparameters(
            {
                "host": host,
                "upsampler": upsampler,
                "num_classes": num_classes,
                "stuff_classes": stuff_classes,
                "upsampler_options": upsampler_options,
                "host_options": dict(options),
                "pretrained": pretrained,
                "freeze_encoder": freeze_encoder,
                "optimisation": asdict(self.optimisation),
                "schedule": asdict(self.schedule),
                "engine": engine,
                "boundary": boundary,
                "seed": seed,
            }
        )
        self.panoptic = host in PANOPTIC_HOSTS
        if self.panoptic:
            options["stuff_classes"] = stuff_classes
        self.host = HOSTS[host](
            upsampler=upsampler,
            num_classes=num_classes,
            pretrained=pretrained,
            upsampler_options=upsampler_options,
            **options,
        )
        if freeze_encoder:
            self.host.backbone.body.requires_grad_(False)
            self.train()
        self.num_classes, self.stuff_classes = num_classes, stuff_classes if self.panoptic else 0
        self.metrics: InstanceMetrics | PanopticMetrics | None = None
        self.results: dict[str, Any] = {}  # of the last validation or test
        self.categories: list[Category] = []

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Any]]:
        """What the host finds in images [3, H, W] in 0..1, one dictionary each."""
        return self.host(images)

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode. A frozen encoder is always in the latter."""
        super().train(mode)
        if self.freeze_encoder:
            self.host.backbone.body.eval()
        return self

    def setup(self, stage: str) -> None:
        """Take over from the data module the categories, and what is measured against."""
        data = getattr(self.trainer, "datamodule", None)
        evaluated = getattr(data, "evaluated", None)
        if stage == "predict" or not isinstance(evaluated, ObjectDataset):
            return
        self._check_categories(evaluated)
        self.categories = list(evaluated.categories)
        if self.panoptic:
            self.metrics = PanopticMetrics(self.num_classes, self.stuff_classes)
        elif isinstance(evaluated, InstanceDataset):
            self.metrics = InstanceMetrics(evaluated.ground_truth(), self.engine, self.boundary)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make what the network draws a function of the step, so that a resumed run repeats an uninterrupted one."""
        torch.manual_seed(derive_seed(self.seed, self.global_step, batch_idx, self.global_rank))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of a batch: what the host minimises, summed."""
        losses: dict[str, Tensor] = self.host(batch["image"], batch["target"])
        loss = torch.stack(list(losses.values())).sum()
        log = partial(self.log, sync_dist=True, batch_size=len(batch["image"]))
        log("train/loss", loss, prog_bar=True)
        for name, value in losses.items():
            log(f"train/{name}", value)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Compare what is found with what is labelled."""
        for i, found in enumerate(self.host(batch["image"])):
            if isinstance(self.metrics, PanopticMetrics):
                segments = found["panoptic"]
                self.metrics.update(segments["ids"], segments["segments"], batch["ids"][i], batch["segments"][i])
            elif self.metrics is not None:
                masks = found["masks"][:, 0] >= 0.5
                self.metrics.update(batch["target"][i]["image_id"], masks, found["scores"], found["labels"])

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
            rich.print(object_table(self.results, self.categories))

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """What the host finds, an entry an image; nothing for a batch that holds an "error" in place of images."""
        return [] if "error" in batch else self.host(batch["image"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser with its groups, and the schedule, stepped with it."""
        optimizer = create_optimizer(self.host, self.optimisation, _ENCODER)
        steps = self.schedule.total_steps or self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise ValueError("an endless training needs schedule.total_steps, or set the trainer's max_steps.")
        scheduler = poly_scheduler(optimizer, self.schedule, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the categories, for results made without the data set."""
        checkpoint["categories"] = [[c.id, c.name, c.isthing, list(c.color)] for c in self.categories]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the categories."""
        self.categories = [
            Category(number, name, isthing, (red, green, blue))
            for number, name, isthing, (red, green, blue) in checkpoint.get("categories", [])
        ]

    def _check_categories(self, dataset: ObjectDataset) -> None:
        things = len(dataset.things)
        stuff = len(dataset.categories) - things if self.panoptic else 0
        if (things, stuff) != (self.num_classes, self.stuff_classes):
            settings = f"num_classes to {things}" + (f" and stuff_classes to {stuff}" if self.panoptic else "")
            raise ValueError(
                f"classes of things and of stuff: {self.num_classes} and {self.stuff_classes} in the network, {things} "
                f"and {stuff} in the data set; set {settings}."
            )

    def _finish(self, prefix: str) -> None:
        if self.metrics is None:
            raise ValueError("there is nothing to measure against: give the trainer a DetectionData.")
        self.results = self.metrics.compute()
        self.metrics.reset()
        scalars = {f"{prefix}/{key}": value for key, value in headline(self.results).items()}
        # All processes hold the same reduced numbers; sync_dist only tells Lightning that this is known.
        self.log_dict(scalars, sync_dist=True, prog_bar=prefix == "val")


def _checked_options(host: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    if host not in DETECTION_HOSTS:
        raise ValueError(f"{host!r} does not find objects; choose one of {', '.join(DETECTION_HOSTS)}.")
    taken = [name for name in options or () if name in _GIVEN]
    if taken:
        raise ValueError(f"host_options must leave {', '.join(taken)} to the settings of that name.")
    return dict(options or {})
