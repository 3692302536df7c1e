"""Panoptic segmentation: every pixel belongs to an object or to stuff, measured by PQ."""

from collections.abc import Sequence
from typing import Any, ClassVar

from resfu.data.coco import PANOPTIC_DATASETS, Category, ObjectDataset
from resfu.evaluation.panoptic import PanopticMetrics
from resfu.hosts import find_host
from resfu.tasks.objects import ObjectData, ObjectModule, Objects, checked_options, mismatch
from resfu.training.arguments import plain_arguments
from resfu.training.parameter_groups import Optimisation
from resfu.training.schedule import Schedule
from resfu.training.scores import Score


class PanopticModule(ObjectModule):
    """Train, measure and apply a Panoptic FPN.

    In validation a batch also has "ids" and "segments".

    Args:
        host: one of `resfu.hosts.PANOPTIC_HOSTS`.
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of classes of things.
        stuff_classes: number of classes of stuff.
        upsampler_options: further constructor arguments of the upsampler.
        host_options: further constructor arguments of the host, such as `min_size`.
        pretrained: False, True or a path: the source of the encoder's weights, see `resfu.create_host`.
        freeze_encoder: do not train the encoder at all, see `InstanceModule`.
        optimisation: optimiser, learning rates, weight decay; the encoder is the ResNet without its pyramid.
        schedule: the curve of the learning rate.
        seed: seed of the network's own randomness during training: the sampling of proposals, the size of an image.

    Raises:
        ValueError: for an unknown host or upsampler or a bad option.
    """

    scores: ClassVar = (
        Score("pq", "PQ", "pq_by_class"),
        Score("pq_things", "PQ things"),
        Score("pq_stuff", "PQ stuff"),
        Score("sq", "SQ", "sq_by_class"),
        Score("rq", "RQ", "rq_by_class"),
    )
    metrics: PanopticMetrics | None

    def __init__(
        self,
        host: str = "panoptic-fpn-resnet50",
        upsampler: str = "resfu",
        num_classes: int = 80,
        stuff_classes: int = 53,
        upsampler_options: dict[str, Any] | None = None,
        host_options: dict[str, Any] | None = None,
        pretrained: bool | str = False,
        freeze_encoder: bool = False,
        optimisation: Optimisation = Optimisation(),  # noqa: B008 (frozen, safe to share)
        schedule: Schedule = Schedule(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        host_options = checked_options(host, host_options, pretrained)
        arguments = plain_arguments(locals())
        network = find_host(host)(
            upsampler=upsampler,
            num_classes=num_classes,
            stuff_classes=stuff_classes,
            pretrained=pretrained,
            upsampler_options=upsampler_options,
            **host_options,
        )
        super().__init__(network, optimisation, schedule, freeze_encoder, seed)
        self.save_hyperparameters(arguments)
        self.num_classes, self.stuff_classes = num_classes, stuff_classes

    def check_categories(self, dataset: ObjectDataset) -> None:
        """Refuse a data set whose numbers of classes differ from the network's."""
        things = len(dataset.things)
        stuff = len(dataset.categories) - things
        if (things, stuff) != (self.num_classes, self.stuff_classes):
            settings = f"num_classes to {things} and stuff_classes to {stuff}"
            raise mismatch((self.num_classes, self.stuff_classes), (things, stuff), settings)

    def prepare_metrics(self, dataset: Any) -> None:
        """Make the metrics of the evaluated split."""
        self.metrics = PanopticMetrics(self.num_classes, self.stuff_classes)

    def measure(self, batch: dict[str, Any]) -> None:
        """Compare predicted with labelled segments."""
        if self.metrics is None:
            return
        labelled = zip(batch["ids"], batch["segments"], strict=True)
        for (ids, segments), found in zip(labelled, self.host(batch["image"]), strict=True):
            self.metrics.update(found["panoptic"]["ids"], found["panoptic"]["segments"], ids, segments)


class PanopticData(ObjectData):
    """The splits of a data set of panoptic segments, see `ObjectData`."""

    datasets: ClassVar = PANOPTIC_DATASETS


class Panoptic(Objects):
    """Panoptic segmentation."""

    name = "panoptic"
    small_recipe = "scenes-panoptic"
    module = PanopticModule
    data = PanopticData
    note = "panoptic, segmentation and recognition quality in percent"
    class_note = (
        "Panoptic quality of each class in percent, mean over the seeds. A class that is neither labelled nor "
        "predicted has none."
    )

    def class_counts(self, things: int, stuff: int) -> dict[str, int]:
        """The numbers of things and of stuff."""
        return {"num_classes": things, "stuff_classes": stuff}

    def measured_categories(self, dataset: ObjectDataset) -> Sequence[Category]:
        """Things and stuff."""
        return dataset.categories
