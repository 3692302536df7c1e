"""Semantic segmentation: a class for every pixel of a photo."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from rich.table import Table
from torch import Tensor

from resfu.data import DATASETS
from resfu.data.base import IGNORE_INDEX
from resfu.data.coco import INSTANCE_DATASETS
from resfu.data.registry import find_dataset
from resfu.data.transforms import eval_transform
from resfu.deploy.decisions import largest_class
from resfu.evaluation.inference import predict, resize_logits
from resfu.evaluation.labels import predict_labels
from resfu.evaluation.semantic import SemanticMetrics
from resfu.hosts import DETECTION_HOSTS, create_host
from resfu.hosts.base import SegmentationHost
from resfu.tasks.base import Contents, Task
from resfu.tasks.label_map_data import LabelMapData, holds_volumes
from resfu.tasks.label_map_files import LabelMapWriter
from resfu.tasks.label_pictures import label_map_picture, label_map_pictures
from resfu.tasks.photos import photo_sample
from resfu.tasks.pictures import ImagePictures
from resfu.tasks.writing import PredictionWriter
from resfu.training.arguments import as_options, plain_arguments
from resfu.training.losses import segmentation_loss
from resfu.training.module import TrainingModule
from resfu.training.parameter_groups import Optimisation
from resfu.training.schedule import Schedule
from resfu.training.scores import Score, class_table, number
from resfu.visualize import Picture


@dataclass(frozen=True)
class Inference:
    """How the network is run on an image in validation, test and prediction; see `resfu.evaluation.inference.predict`.

    Args:
        mode: "whole" image or "slide", for sliding windows.
        crop_size: (height, width) of the window for "slide".
        stride: (vertical, horizontal) step of the window.
    """

    mode: Literal["whole", "slide"] = "whole"
    crop_size: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None


class LabelMapModule(TrainingModule):
    """Train, measure and apply a segmentation host.

    A batch is a dictionary: "image" float [B, 3, H, W], normalised; "label" int64 [B, H, W], 255 = ignored; "name", a
    list of str.

    Args:
        host: a key of `resfu.HOSTS`, or "package.module:function" for a function that builds a network of your own.
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of classes, up to 255, because the label 255 is ignored and label maps are uint8.
        upsampler_options: further constructor arguments of the upsampler.
        host_options: further constructor arguments of the host.
        pretrained: False, True or a path: the source of the encoder's weights, see `resfu.create_host`.
        freeze_encoder: do not train the encoder: no gradients, and evaluation mode (also for BatchNorm statistics).
        loss_average: the divisor of the cross entropy: "valid" counts the labelled pixels, "all" every pixel.
        optimisation: optimiser, learning rates, weight decay.
        schedule: the curve of the learning rate.
        inference: how the network is run on an image outside training.
        seed: seed of the network's own randomness (dropout) during training.

    Raises:
        ValueError: for an unknown host or upsampler, too many classes or a bad option.
    """

    scores: ClassVar = (
        Score("miou", "mIoU", "iou", "IoU"),
        Score("macc", "mAcc", "acc", "Acc"),
        Score("aacc", "aAcc", compared=False),
        Score("biou", "bIoU", "boundary_iou", "boundary IoU"),
    )
    host: SegmentationHost

    def __init__(
        self,
        host: str = "segformer-mit-b0",
        upsampler: str = "resfu",
        num_classes: int = 150,
        upsampler_options: dict[str, Any] | None = None,
        host_options: dict[str, Any] | None = None,
        pretrained: bool | str = False,
        freeze_encoder: bool = False,
        loss_average: Literal["valid", "all"] = "valid",
        optimisation: Optimisation = Optimisation(),  # noqa: B008 (frozen, safe to share)
        schedule: Schedule = Schedule(),  # noqa: B008
        inference: Inference = Inference(),
        seed: int = 0,
    ) -> None:
        arguments = plain_arguments(locals())
        if num_classes > IGNORE_INDEX:
            raise ValueError(
                f"num_classes must be at most {IGNORE_INDEX}, got {num_classes}: the label {IGNORE_INDEX} is ignored, "
                "and label maps are uint8."
            )
        network = create_host(host, upsampler, num_classes, pretrained, upsampler_options, host_options)
        super().__init__(network, optimisation, schedule, freeze_encoder, seed)
        self.save_hyperparameters(arguments)
        self.inference = as_options(Inference, inference)
        self.loss_average: Literal["valid", "all"] = loss_average
        self.metrics: Any = SemanticMetrics(num_classes)
        self.classes = tuple(f"class {i}" for i in range(num_classes))
        self.palette: list[list[int]] | None = None  # RGB of each class, if the data set has colours
        self.photo_size: dict[str, Any] = {}  # arguments of `eval_transform` by which photos are resized

    @property
    def image_mean(self) -> tuple[float, float, float]:
        """Mean per channel of the images that the encoder expects, for values in 0..1."""
        return self.host.mean

    @property
    def image_std(self) -> tuple[float, float, float]:
        """Standard deviation per channel of the images that the encoder expects, for values in 0..1."""
        return self.host.std

    @property
    def class_names(self) -> list[str]:
        """The classes."""
        return list(self.classes)

    def setup(self, stage: str) -> None:
        """Copy the names and colours of the classes from the data module; for prediction they are in the checkpoint."""
        data = getattr(self.trainer, "datamodule", None)
        classes = None if stage == "predict" else getattr(data, "classes", None)
        if data is None or classes is None:
            return
        if len(classes) != len(self.classes):
            raise ValueError(
                f"num_classes is {len(self.classes)} in the network and {len(classes)} in the data set: set it to that."
            )
        self.classes, self.palette = tuple(classes), data.palette.tolist()
        self.photo_size = _photo_size(data.hparams)

    @property
    def absent(self) -> list[str]:
        """The classes without a labelled pixel in the last validation or test."""
        labelled = self.results.get("acc", [])
        return [name for name, acc in zip(self.class_names, labelled, strict=False) if math.isnan(acc)]

    def table(self) -> Table:
        """The results of the last validation or test, class by class, for `rich.print`."""
        caption = f"pixels right: {number(self.results['aacc'])} %"
        return class_table(self.scores, self.results, self.class_names, caption=caption)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The losses of a batch, by name."""
        cross_entropy = partial(segmentation_loss, average=self.loss_average)
        found = self.host.losses(batch["image"], batch["label"], cross_entropy)
        return {f"loss_{name}": value for name, value in found.items()}

    def measure(self, batch: dict[str, Any]) -> None:
        """Add a batch's pixels to the metrics."""
        logits = resize_logits(self.logits(batch["image"]), batch["label"].shape[-2:])
        self.metrics.update(largest_class(logits), batch["label"])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """ "label_map" [B, H, W] uint8 on the CPU; nothing for a batch that holds an "error" in place of an image.

        H and W are the batch's "size", that of the photo's file, or else the image's.
        """
        if "error" in batch:
            return {}
        label_map = self.label_map(batch["image"], batch.get("size", batch["image"].shape[-2:]))
        return {"label_map": label_map.cpu()}

    def logits(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes, H, W] of normalised images [B, 3, H, W], whole or by sliding windows."""
        options = self.inference
        return predict(self.host, images, options.mode, options.crop_size, options.stride)

    def label_map(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Classes uint8 [B, H, W] of normalised images [B, 3, h, w], at a size (H, W)."""
        options = self.inference
        return predict_labels(self.host, images, size, options.mode, options.crop_size, options.stride)

    @torch.no_grad()
    def predict(self, image: str | Path | Picture) -> Tensor:
        """The label map of a photo, which is resized for the network as in the training's validation.

        Args:
            image: the path of an image file, or uint8 [H, W, 3].

        Returns:
            uint8 [H, W], indices into `classes`, at the photo's size.

        Raises:
            ValueError: for a file that cannot be read, or another array.
        """
        photo = photo_sample(image)
        size = (photo["image"].shape[-2], photo["image"].shape[-1])
        sample = eval_transform(self.image_mean, self.image_std, **self.photo_size)(photo)
        return self.label_map(sample["image"][None].to(self.device), size)[0].cpu()

    def picture(self, image: Tensor) -> Picture | None:
        """The prediction for an image [3, H, W] in the classes' colours; None if these are not known."""
        return label_map_picture(self.host, image, self.palette)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the names and colours of the classes, for pictures made without the data set."""
        checkpoint["classes"] = list(self.classes)
        checkpoint["palette"] = self.palette

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the names and colours of the classes, and the size of photos, which is a setting of the data."""
        self.classes = tuple(checkpoint.get("classes", self.classes))
        self.palette = checkpoint.get("palette")
        self.photo_size = _photo_size(checkpoint.get("datamodule_hyper_parameters", {}))


def _photo_size(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: settings.get(key) for key in ("eval_size", "longest_side")}


class LabelMaps(Task):
    """Semantic segmentation of photos."""

    name = "label maps"
    host_tasks = ("label maps", "volumes")
    small_recipe = "scenes"
    module = LabelMapModule
    data = LabelMapData
    written = "label maps"
    shows_errors = True
    class_note = (
        "Intersection over union of each class in percent, mean over the seeds. A class that is neither labelled nor "
        "predicted has none."
    )

    def trains(self, host_task: str, dataset: str) -> bool:
        """Networks that label pixels belong to this task, unless the data set contains volumes."""
        return super().trains(host_task, dataset) and not holds_volumes(dataset)

    def check_data(self, host: str, dataset: str) -> None:
        """Refuse data sets of objects, which have no label for every pixel."""
        if dataset in INSTANCE_DATASETS and dataset not in DATASETS:
            raise ValueError(
                f"{dataset} labels objects, which {host} does not find: choose a host from "
                f"{', '.join(DETECTION_HOSTS)}."
            )
        find_dataset(DATASETS, dataset)

    def completed(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Set the number of classes from the data set."""
        model, data = settings["model"], settings["data"]
        dataset = find_dataset(DATASETS, data["dataset"])
        try:
            classes, _ = dataset.describe(data.get("root"), data.get("options") or {})
        except FileNotFoundError:
            if "num_classes" not in model:  # a checkpoint has it: prediction needs no data set
                raise
        else:
            model["num_classes"] = len(classes)
        return settings

    def data_arguments(self, module: Any) -> dict[str, Any]:
        """The normalisation of images is the host's."""
        return {"mean": module.image_mean, "std": module.image_std}

    def writer(self, folder: str, progress: bool, overlay: bool = False) -> PredictionWriter:
        """Write label maps as palette PNG files."""
        return LabelMapWriter(folder, overlay)

    def contents(self, data: Any) -> Contents:
        """The classes and the number of images of the evaluated split."""
        return Contents(list(data.classes), data.palette.tolist(), len(data.evaluated))

    def pictures(self, modules: dict[str, Any], data: Any, places: Sequence[int]) -> list[ImagePictures]:
        """Pictures of images of the evaluated split, with the predictions of each network."""
        hosts = {name: module.host for name, module in modules.items()}
        rule = next(iter(modules.values())).inference
        return label_map_pictures(hosts, data.evaluated, places, rule.mode, rule.crop_size, rule.stride)
