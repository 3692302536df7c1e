"""The common base classes of instance and panoptic segmentation: module, data module and task."""

import importlib.util
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from resfu.data import Sample
from resfu.data.coco import Category, ObjectDataset, collate
from resfu.data.coco.sampling import AspectRatioSampler
from resfu.data.coco.transforms import eval_transform, train_transform
from resfu.data.registry import find_dataset, open_dataset
from resfu.hosts import DETECTION_HOSTS
from resfu.hosts.mask_rcnn import MaskRCNN
from resfu.tasks.base import Contents, Task
from resfu.tasks.object_files import ObjectWriter, draw_found
from resfu.tasks.object_pictures import object_pictures
from resfu.tasks.photos import Photos, photo_sample
from resfu.tasks.pictures import ImagePictures
from resfu.training.arguments import plain_arguments
from resfu.training.data import TrainingData
from resfu.training.module import TrainingModule
from resfu.visualize import Picture

# Arguments of the hosts that are separate settings.
_SETTINGS = ("upsampler", "num_classes", "stuff_classes", "pretrained", "upsampler_options")


class ObjectModule(TrainingModule):
    """Base class of the modules with hosts that detect objects.

    A batch, made by `ObjectData`, is a dictionary of lists with an entry for each image: "image", float [3, H, W] in
    0..1, and "target", as the hosts take it.

    Attributes:
        categories: the categories of the data set; empty if they are not known.
    """

    encoder_prefix: ClassVar = "backbone.body."
    host: MaskRCNN
    categories: Sequence[Category] = ()

    @property
    def class_names(self) -> list[str]:
        """The categories."""
        return [category.name for category in self.categories]

    def setup(self, stage: str) -> None:
        """Copy the categories from the data module, and make the metrics of its evaluated split."""
        data = getattr(self.trainer, "datamodule", None)
        evaluated = getattr(data, "evaluated", None)
        if stage != "predict" and isinstance(evaluated, ObjectDataset):
            self.check_categories(evaluated)
            self.categories = list(evaluated.categories)
            self.prepare_metrics(evaluated)

    @abstractmethod
    def check_categories(self, dataset: ObjectDataset) -> None:
        """Refuse a data set whose numbers of classes differ from the network's.

        Raises:
            ValueError: if they differ; the message says what to set.
        """

    @abstractmethod
    def prepare_metrics(self, dataset: Any) -> None:
        """Make the metrics of the evaluated split."""

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The losses of a batch, by name."""
        return self.host(batch["image"], batch["target"])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """The host's result for each image; an empty list for a batch with an "error" in place of images."""
        return [] if "error" in batch else self.host(batch["image"])

    @torch.no_grad()
    def predict(self, image: str | Path | Picture) -> dict[str, Any]:
        """Find the objects in a photo.

        Args:
            image: the path of an image file, or uint8 [H, W, 3].

        Returns:
            "boxes" [N, 4], "labels" [N], "scores" [N], "masks" [N, 1, H, W] and, for a panoptic network, "panoptic".

        Raises:
            ValueError: for a file that cannot be read, or another array.
        """
        return self.host([eval_transform()(photo_sample(image))["image"].to(self.device)])[0]

    def picture(self, image: Tensor) -> Picture | None:
        """An image [3, H, W] in 0..1 with the objects found in it; None if the categories are not known."""
        if not self.categories:
            return None
        pixels = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        return draw_found(pixels, self.host([image])[0], self.categories)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the categories, for results made without the data set."""
        checkpoint["categories"] = [[c.id, c.name, c.isthing, list(c.color)] for c in self.categories]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the categories."""
        self.categories = [
            Category(number, name, isthing, (red, green, blue))
            for number, name, isthing, (red, green, blue) in checkpoint.get("categories", [])
        ]


def checked_options(host: str, options: Mapping[str, Any] | None, pretrained: bool | str) -> dict[str, Any]:
    """The constructor arguments of a host that detects objects, including the default of `frozen`.

    Raises:
        ValueError: for another host, or an option that is a setting of its own.
    """
    if host not in DETECTION_HOSTS and ":" not in host:
        raise ValueError(f"{host!r} does not find objects; choose one of {', '.join(DETECTION_HOSTS)}.")
    taken = [name for name in options or () if name in _SETTINGS]
    if taken:
        raise ValueError(f"host_options must leave {', '.join(taken)} to the settings of that name.")
    chosen = dict(options or {})
    if chosen.get("frozen") is None:
        # The host's own default, made explicit, because a checkpoint is loaded into a network without pretrained
        # weights.
        chosen["frozen"] = pretrained is not False
    return chosen


def mismatch(network: tuple[int, int], data: tuple[int, int], settings: str) -> ValueError:
    """The error for a network and a data set with different numbers of classes of things or stuff."""
    return ValueError(
        f"classes of things and of stuff: {network[0]} and {network[1]} in the network, {data[0]} and {data[1]} in the "
        f"data set; set {settings}."
    )


class ObjectData(TrainingData):
    """The splits of a data set of objects.

    A training batch has either portrait or landscape images. The hosts resize images themselves.

    Attributes:
        datasets: the known data sets by name.

    Args:
        dataset: a key of `datasets`, or "package.module:Class" for one of your own.
        flip: mirror training samples at random.
        **shared: further arguments of `TrainingData`.

    Raises:
        ValueError: as `TrainingData`.
    """

    datasets: ClassVar[Mapping[str, type[ObjectDataset]]]
    trained: ObjectDataset
    evaluated: ObjectDataset

    def __init__(self, dataset: str = "scenes", flip: bool = True, **shared: Any) -> None:
        arguments = plain_arguments(locals())
        super().__init__(dataset, **shared)
        self.save_hyperparameters(arguments)
        self.flip = flip

    @property
    def dataset_class(self) -> type[ObjectDataset]:
        """The class of the data set."""
        return find_dataset(self.datasets, self.dataset)

    def open_split(self, split: str, training: bool) -> ObjectDataset:
        """Open a split; its samples are augmented if `training`."""
        transform = train_transform(self.flip) if training else eval_transform()
        options = self.train_options if training else self.eval_options
        return open_dataset(self.datasets, self.dataset, split, self.root, transform, options)

    def open_files(self) -> Photos:
        """The photos to predict, as samples."""
        return Photos(self.images, eval_transform(), self.on_error)

    def _training_sampler(self) -> AspectRatioSampler:
        return AspectRatioSampler(self.trained.sizes, self.batch_size, self.seed, *self.process)

    @staticmethod
    def _collate(samples: list[Sample]) -> dict[str, Any]:
        return samples[0] if "error" in samples[0] else collate(samples)

    @staticmethod
    def _apart(samples: list[Sample]) -> list[list[Sample]]:
        return [samples]  # their batches hold images of any size


class Objects(Task):
    """Base class of the tasks whose networks detect objects."""

    data: ClassVar[type[ObjectData]]  # pyright: ignore[reportIncompatibleVariableOverride]
    seen_size = "networks that find objects resize photos themselves"
    written = "pictures and their results"
    cost_note = (
        " Multiply-accumulates leave out the heads of single proposals, whose number depends on what is found; latency "
        "and peak memory hold them."
    )

    def check_data(self, host: str, dataset: str) -> None:
        """Check that COCO's package for the metrics is installed, and that the data set is known or your own."""
        if importlib.util.find_spec("pycocotools") is None:
            raise ValueError(f'{host} needs pycocotools, which is not installed: pip install "resfu[coco]"')
        if dataset not in self.data.datasets and ":" not in dataset:
            raise ValueError(
                f"{host} finds objects, which {dataset} does not label: choose data from "
                f"{', '.join(self.data.datasets)}."
            )

    def completed(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Set the numbers of classes from the data set, if its class defines the categories."""
        categories = getattr(find_dataset(self.data.datasets, settings["data"]["dataset"]), "categories", None)
        if categories is not None:
            things = sum(category.isthing for category in categories)
            settings["model"] |= self.class_counts(things, len(categories) - things)
        return settings

    def class_counts(self, things: int, stuff: int) -> dict[str, int]:
        """The network's settings for the numbers of classes."""
        return {"num_classes": things}

    def without_pretraining(self, model: dict[str, Any]) -> dict[str, Any]:
        """Make `frozen` explicit, because its default depends on `pretrained`."""
        options = checked_options(model["host"], model.get("host_options"), model.get("pretrained", False))
        return {**model, "pretrained": False, "host_options": options}

    def writer(self, folder: str, progress: bool, overlay: bool = False) -> ObjectWriter:
        """Write COCO's result files, and pictures of the objects over the photos, `overlay` or not."""
        return ObjectWriter(folder)

    def measured_categories(self, dataset: ObjectDataset) -> Sequence[Category]:
        """The categories that a table of classes lists."""
        return dataset.things

    def contents(self, data: Any) -> Contents:
        """The categories and their colours; things have none, because each object gets a colour of its own."""
        categories = self.measured_categories(data.evaluated)
        colours = [None if category.isthing else list(category.color) for category in categories]
        return Contents([category.name for category in categories], colours, len(data.evaluated))

    def pictures(self, modules: dict[str, Any], data: Any, places: Sequence[int]) -> list[ImagePictures]:
        """Pictures of images of the evaluated split, with the predictions of each network."""
        return object_pictures({name: module.host for name, module in modules.items()}, data.evaluated, places)

    def input_size(self, host: MaskRCNN, image: Tensor) -> tuple[int, int]:
        """The size after the network's own resizing."""
        height, width = host.transform([image])[0].image_sizes[0]
        return height, width

    @contextmanager
    def counted_part(self, host: MaskRCNN) -> Iterator[None]:
        """A context without the heads for single proposals, because the number of proposals depends on the image."""
        heads = host.roi_heads
        host.roi_heads = _NothingFound()
        try:
            yield
        finally:
            host.roi_heads = heads


class _NothingFound(nn.Module):
    """Replaces the heads for single proposals."""

    def forward(self, features: Any, proposals: list[Tensor], *others: Any) -> tuple[list[dict[str, Tensor]], Any]:
        found = []
        for boxes in proposals:
            labels = boxes.new_zeros(0).long()
            masks = boxes.new_zeros((0, 1, 28, 28))
            found.append({"boxes": boxes[:0], "labels": labels, "scores": boxes.new_zeros(0), "masks": masks})
        return found, {}
