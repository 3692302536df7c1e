"""The base classes of instance and panoptic datasets."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from torchvision import tv_tensors

from resfu.data.base import IGNORE_INDEX, Sample, Transform


class Category(NamedTuple):
    """A category of things or stuff.

    Args:
        id: number in the annotation file; there may be gaps.
        name: the name of the category.
        isthing: whether its objects are told apart.
        color: RGB, for pictures.
    """

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]


class ObjectTarget(TypedDict):
    """The training target of torchvision's detection networks, for one image."""

    boxes: tv_tensors.BoundingBoxes
    labels: torch.Tensor
    masks: tv_tensors.Mask
    area: torch.Tensor
    iscrowd: torch.Tensor
    image_id: int
    semantic: NotRequired[tv_tensors.Mask]


class Segment(TypedDict):
    """A segment of an image, with the category numbers of the networks.

    Args:
        id: in the map of ids, from 1.
        category_id: index into `categories`: things from 0, in the order of their labels, then stuff.
        isthing: 0 or 1.
        iscrowd: 0 or 1.
        area: pixels.
    """

    id: int
    category_id: int
    isthing: int
    iscrowd: int
    area: int


class ObjectDataset(Dataset[Sample], ABC):
    """Base of instance and panoptic datasets.

    A subclass sets `categories` and `sizes` and implements `load`. An item is a dictionary with

    * "image": uint8 [3, H, W], a `torchvision.tv_tensors.Image`;
    * "target": an `ObjectTarget`: boxes float32 [N, 4] (x1, y1, x2, y2 in pixels), labels int64 [N] (1 to the number of
      things), masks uint8 [N, H, W], area float32 [N] (pixels), iscrowd int64 [N], image_id int;
    * "name": str, the sample's name in reports.

    A training split leaves out crowd regions, empty boxes, and images without any box left.

    Args:
        transform: called with that dictionary; what it returns is the item.
    """

    categories: tuple[Category, ...]  # things, then stuff, each by rising id
    sizes: list[tuple[int, int]]  # (H, W) of each sample

    def __init__(self, transform: Transform | None = None) -> None:
        self.transform = transform

    @property
    def things(self) -> tuple[Category, ...]:
        """Label l is the category things[l - 1]."""
        return tuple(category for category in self.categories if category.isthing)

    def __len__(self) -> int:
        return len(self.sizes)

    @abstractmethod
    def load(self, index: int) -> Sample:
        """The sample at 0 <= index < len(self), before the transform."""

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for a dataset of {len(self)} samples.")
        sample = self.load(index % len(self))
        return sample if self.transform is None else self.transform(sample)


class InstanceDataset(ObjectDataset):
    """Base of instance segmentation datasets."""

    @abstractmethod
    def ground_truth(self) -> dict[str, Any]:
        """All images, annotations and categories in COCO's JSON format, for `InstanceMetrics`."""


class PanopticDataset(ObjectDataset):
    """Base of the panoptic datasets.

    Beyond `ObjectDataset`, an item has

    * in "target", a "semantic" label: int64 [H, W], s for the category stuff[s], len(stuff) for every thing (also
      crowds), 255 for void;
    * "ids": int32 [H, W], a Mask: the segment at each pixel, 0 for void;
    * "segments": a list of `Segment`, with crowds even in training.
    """

    @property
    def stuff(self) -> tuple[Category, ...]:
        """Channel s of the semantic label is the category stuff[s]; all things share one channel after the last."""
        return tuple(category for category in self.categories if not category.isthing)


def object_target(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    masks: Sequence[NDArray[np.uint8]],
    area: Sequence[float],
    iscrowd: Sequence[int],
    image_id: int,
    size: tuple[int, int],
) -> ObjectTarget:
    """The target of an image, from one entry per object.

    Args:
        boxes: x1, y1, x2, y2 in pixels; clipped to the image.
        labels: 1 to the number of things.
        masks: [H, W] each.
        area: pixels.
        iscrowd: 0 or 1.
        image_id: id of the image.
        size: (H, W) of the image.

    Returns:
        The target; without objects its tensors have N = 0.
    """
    H, W = size
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4).clamp(min=0)
    corners = torch.minimum(corners, torch.tensor([W, H, W, H], dtype=torch.float32))
    stacked = np.stack(masks) if masks else np.zeros((0, H, W), dtype=np.uint8)
    return {
        "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=size),  # pyright: ignore[reportCallIssue]
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": tv_tensors.Mask(torch.from_numpy(stacked)),
        "area": torch.tensor(area, dtype=torch.float32),
        "iscrowd": torch.tensor(iscrowd, dtype=torch.int64),
        "image_id": image_id,
    }


def panoptic_labels(
    ids: NDArray[np.int32],
    listed: Sequence[Mapping[str, Any]],
    categories: Sequence[Category],
    image_id: int,
    training: bool,
) -> Sample:
    """The entries of a panoptic item besides the image and its name.

    Args:
        ids: [H, W], the segment at each pixel, 0 for void.
        listed: "id", "category_id" (a `Category.id`) and "iscrowd" of each segment.
        categories: of the dataset, things first.
        image_id: id of the image.
        training: leave crowds out of the boxes and masks.

    Returns:
        "target", "ids" and "segments", see `PanopticDataset`.

    Raises:
        ValueError: for segments without a pixel, or pixels without a segment.
    """
    place = {category.id: number for number, category in enumerate(categories)}
    number_of_things = sum(category.isthing for category in categories)
    number_of_stuff = len(categories) - number_of_things
    semantic = np.full(ids.shape, IGNORE_INDEX, dtype=np.int64)
    segments: list[Segment] = []
    objects: list[tuple[list[float], int, NDArray[np.uint8], float, int]] = []
    covered = int((ids == 0).sum())
    for entry in listed:
        mask = ids == entry["id"]
        pixels = int(mask.sum())
        if not pixels:
            raise ValueError(f"the segment {entry['id']} has no pixel.")
        covered += pixels
        number, crowd = place[entry["category_id"]], entry["iscrowd"]
        isthing = number < number_of_things
        segment: Segment = {
            "id": entry["id"],
            "category_id": number,
            "isthing": int(isthing),
            "iscrowd": crowd,
            "area": pixels,
        }
        segments.append(segment)
        semantic[mask] = number_of_stuff if isthing else number - number_of_things
        if isthing and not (training and crowd):
            objects.append((_box_of(mask), number + 1, mask.view(np.uint8), float(pixels), crowd))
    if covered != ids.size:
        known = [0, *(segment["id"] for segment in segments)]
        raise ValueError(f"pixels have the ids {np.setdiff1d(ids, known).tolist()}, which no segment lists.")
    boxes, labels, masks, area, iscrowd = zip(*objects, strict=True) if objects else ((),) * 5
    target = object_target(boxes, labels, masks, area, iscrowd, image_id, (ids.shape[0], ids.shape[1]))
    target["semantic"] = tv_tensors.Mask(torch.from_numpy(semantic))
    return {"target": target, "ids": tv_tensors.Mask(torch.from_numpy(ids)), "segments": segments}


def collate(samples: Sequence[Sample]) -> dict[str, list[Any]]:
    """Turn a list of items into a dictionary of lists, the batch of a detection network."""
    return {key: [sample[key] for sample in samples] for key in samples[0]}


def _box_of(mask: NDArray[np.bool_]) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]
