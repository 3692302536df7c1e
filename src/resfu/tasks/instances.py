"""Instance segmentation: every object of an image with its mask, measured by mask AP."""

from typing import Any, ClassVar

from resfu.data.coco import INSTANCE_DATASETS, ObjectDataset
from resfu.evaluation.instances import Engine, InstanceMetrics
from resfu.hosts import find_host
from resfu.tasks.objects import ObjectData, ObjectModule, Objects, checked_options, mismatch
from resfu.training.arguments import plain_arguments
from resfu.training.parameter_groups import Optimisation
from resfu.training.schedule import Schedule
from resfu.training.scores import Score


class InstanceModule(ObjectModule):
    """Train, measure and apply a Mask R-CNN.

    Args:
        host: one of `resfu.hosts.DETECTION_HOSTS` for instances.
        upsampler: a key of `resfu.UPSAMPLERS`.
        num_classes: number of object classes.
        upsampler_options: further constructor arguments of the upsampler.
        host_options: further constructor arguments of the host, such as `min_size`.
        pretrained: False, True or a path: the source of the encoder's weights, see `resfu.create_host`.
        freeze_encoder: do not train the encoder at all: no gradients, and evaluation mode (also for BatchNorm
            statistics). The host's own option `frozen` only fixes its first layers and its normalisation.
        optimisation: optimiser, learning rates, weight decay; the encoder is the ResNet without its pyramid.
        schedule: the curve of the learning rate.
        engine: the code that measures mask AP, see `InstanceMetrics`.
        boundary: also measure boundary AP.
        seed: seed of the network's own randomness during training: the sampling of proposals, the size of an image.

    Raises:
        ValueError: for an unknown host or upsampler or a bad option.
    """

    scores: ClassVar = (
        Score("mask_ap", "mask AP", "ap_by_class"),
        Score("ap50", "AP50"),
        Score("ap75", "AP75"),
        *(Score(f"ap_{size}", f"AP {size.upper()}", compared=False) for size in "sml"),
        Score("boundary_mask_ap", "boundary AP", "boundary_ap_by_class"),
        *(Score(f"boundary_{key}", f"boundary {key}", compared=False) for key in ("ap50", "ap75")),
        *(Score(f"boundary_ap_{size}", f"boundary AP {size.upper()}", compared=False) for size in "sml"),
    )
    metrics: InstanceMetrics | None

    def __init__(
        self,
        host: str = "mask-rcnn-resnet50",
        upsampler: str = "resfu",
        num_classes: int = 80,
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
        host_options = checked_options(host, host_options, pretrained)
        arguments = plain_arguments(locals())
        network = find_host(host)(
            upsampler=upsampler,
            num_classes=num_classes,
            pretrained=pretrained,
            upsampler_options=upsampler_options,
            **host_options,
        )
        super().__init__(network, optimisation, schedule, freeze_encoder, seed)
        self.save_hyperparameters(arguments)
        self.num_classes = num_classes
        self.engine: Engine = engine
        self.boundary = boundary

    def check_categories(self, dataset: ObjectDataset) -> None:
        """Refuse a data set whose number of classes differs from the network's."""
        things = len(dataset.things)
        if things != self.num_classes:
            raise mismatch((self.num_classes, 0), (things, 0), f"num_classes to {things}")

    def prepare_metrics(self, dataset: Any) -> None:
        """Make the metrics of the evaluated split."""
        self.metrics = InstanceMetrics(dataset.ground_truth(), self.engine, self.boundary)

    def measure(self, batch: dict[str, Any]) -> None:
        """Compare predicted with labelled objects."""
        if self.metrics is None:
            return
        for target, found in zip(batch["target"], self.host(batch["image"]), strict=True):
            self.metrics.update(target["image_id"], found["masks"][:, 0] >= 0.5, found["scores"], found["labels"])


class InstanceData(ObjectData):
    """The splits of a data set of instances, see `ObjectData`."""

    datasets: ClassVar = INSTANCE_DATASETS


class Instances(Objects):
    """Instance segmentation."""

    name = "instances"
    small_recipe = "scenes-instances"
    module = InstanceModule
    data = InstanceData
    note = "average precision of masks in percent"
    class_note = "Mask AP of each class in percent, mean over the seeds. A class without a labelled object has none."
