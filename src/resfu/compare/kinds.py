"""The kinds of comparisons: what is measured, in the mean and class by class, and the words for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from resfu.data import DATASETS
from resfu.data.coco import INSTANCE_DATASETS
from resfu.data.medical.base import SliceDataset
from resfu.hosts import DETECTION_HOSTS, HOSTS, PANOPTIC_HOSTS

# Everything that some network can be compared on.
DATA = tuple(sorted({*DATASETS, *INSTANCE_DATASETS}))


@dataclass(frozen=True)
class Kind:
    """What networks are compared by.

    Attributes:
        name: as "kind" of results.json says it.
        metrics: keys of a run's "metrics", and what the tables call them; the first has a curve.
        by_class: keys of a run's lists over the classes, and what the tables call them.
        values: what the metrics are; `{images}` and `{convention}` stand for those of the comparison.
        class_values: the same of the table of classes.
        counted: what validation counts.
    """

    name: Literal["label maps", "volumes", "instances", "panoptic"]
    metrics: Mapping[str, str]
    by_class: Mapping[str, str]
    values: str
    class_values: str
    counted: str = "images"

    @property
    def objects(self) -> bool:
        """Whether the networks find objects, and do not classify every pixel."""
        return self.name in ("instances", "panoptic")


LABEL_MAPS = Kind(
    "label maps",
    {"miou": "mIoU", "macc": "mAcc", "biou": "bIoU"},
    {"iou": "IoU"},
    "in percent",
    "Intersection over union of each class in percent, mean over the seeds. A class that is neither labelled nor "
    "predicted has none.",
)
VOLUMES = Kind(
    "volumes",
    {"dice": "Dice", "hd95_found": "HD95", "hd95": "HD95 by convention", "missed": "missed"},
    {"dice": "Dice", "hd95_found": "HD95", "hd95": "HD95 by convention", "missed": "missed"},
    "{images} volumes, means over organs; Dice in percent, after the convention {convention!r}; HD95 in voxels, of the "
    "organs that are labelled and found, and beside it by the convention, which gives the others a value too; missed: "
    "how often a labelled organ was not found at all",
    "Dice in percent (the higher the better) and HD95 in voxels (the lower), means over the volumes and seeds. HD95 is "
    "of the volumes in which the organ is labelled and found, by convention of all; missed: in how many it is labelled "
    "and not found.",
    counted="volumes",
)
INSTANCES = Kind(
    "instances",
    {"mask_ap": "mask AP", "ap50": "AP50", "ap75": "AP75", "boundary_mask_ap": "boundary AP"},
    {"ap_by_class": "mask AP"},
    "average precision of masks in percent",
    "Mask AP of each class in percent, mean over the seeds. A class without a labelled object has none.",
)
PANOPTIC = Kind(
    "panoptic",
    {"pq": "PQ", "pq_things": "PQ things", "pq_stuff": "PQ stuff", "sq": "SQ", "rq": "RQ"},
    {"pq_by_class": "PQ"},
    "panoptic, segmentation and recognition quality in percent",
    "Panoptic quality of each class in percent, mean over the seeds. A class that is neither labelled nor predicted "
    "has none.",
)
KINDS = {kind.name: kind for kind in (LABEL_MAPS, VOLUMES, INSTANCES, PANOPTIC)}


def kind_of(host: str, data: str) -> Kind:
    """The kind that a network and its data make.

    Args:
        host: a key of `resfu.HOSTS`.
        data: of `DATA`.

    Raises:
        ValueError: for an unknown name, and for data without the labels that the network trains on.
    """
    for words, value, known in (("data set", data, DATA), ("host", host, HOSTS)):
        if value not in known:
            raise ValueError(f"unknown {words} {value!r}; choose from {', '.join(known)}.")
    if host in DETECTION_HOSTS:
        if data not in INSTANCE_DATASETS:
            raise ValueError(
                f"{host} finds objects, which {data} does not label: choose data from {', '.join(INSTANCE_DATASETS)}."
            )
        return PANOPTIC if host in PANOPTIC_HOSTS else INSTANCES
    if data not in DATASETS:
        raise ValueError(
            f"{data} labels objects, which {host} does not find: choose a host from {', '.join(DETECTION_HOSTS)}."
        )
    return VOLUMES if issubclass(DATASETS[data], SliceDataset) else LABEL_MAPS
