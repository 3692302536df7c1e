"""The procedural scenes with instances and panoptic segments: no download, no annotation files."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resfu.data.base import Sample, Transform
from resfu.data.coco.base import Category, InstanceDataset, ObjectDataset, PanopticDataset, panoptic_labels
from resfu.data.coco.segmentation import encode_rle
from resfu.data.generated.scenes import Scenes
from resfu.data.generated.scenes.classes import STUFF


class SceneObjects(ObjectDataset):
    """Base of the two. A category's id is its class number in `Scenes`; image ids count from 1.

    Args:
        split: "train", "val" or "test"; "train" leaves out scenes without a thing.
        root: cache folder, see `Scenes`.
        transform: see `ObjectDataset`.
        size: (H, W) in pixels.
        count: number of scenes generated.
        seed: 0 or more.
        difficulty: 0 to 1.

    Raises:
        ValueError: for an argument outside its range.
    """

    categories = tuple(
        Category(number, Scenes.classes[number], number >= len(STUFF), tuple(Scenes.palette[number].tolist()))
        for number in (*range(len(STUFF), len(Scenes.classes)), *range(len(STUFF)))
    )

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        transform: Transform | None = None,
        size: Sequence[int] = (192, 192),
        count: int | None = None,
        seed: int = 0,
        difficulty: float = 0.0,
    ) -> None:
        super().__init__(transform)
        self.scenes = Scenes(split, root, size, count, seed, difficulty)
        self.training = split == "train"
        self.places = [place for place in range(len(self.scenes)) if not self.training or self._has_thing(place)]
        if not self.places:
            raise ValueError(f"none of {len(self.scenes)} scenes has a thing to train on: raise count or size.")
        self.sizes = [self.scenes.size] * len(self.places)

    def _has_thing(self, place: int) -> bool:
        return any(segment["isthing"] for segment in self.scenes.panoptic(place)[1])

    def load(self, index: int) -> Sample:
        """The scene at `index`."""
        sample = self.scenes.load(self.places[index])
        return {"image": sample["image"], "name": sample["name"], **self.labels(self.places[index])}

    @abstractmethod
    def labels(self, place: int) -> Sample:
        """The entries of an item besides the image and its name, for an index into `scenes`."""

    def all_labels(self, place: int) -> Sample:
        """The panoptic labels of a scene, of which instances are a part."""
        ids, segments = self.scenes.panoptic(place)
        return panoptic_labels(ids.numpy(), segments, self.categories, place + 1, self.training)


class SceneInstances(SceneObjects, InstanceDataset):
    """Scenes with the boxes and masks of their things; arguments as for `SceneObjects`."""

    def labels(self, place: int) -> Sample:
        """The target of a scene."""
        return {"target": self.all_labels(place)["target"]}

    def ground_truth(self) -> dict[str, Any]:
        """All samples in COCO's format, the masks as run lengths."""
        annotations: list[dict[str, Any]] = []
        images = []
        for place in self.places:
            target = self.labels(place)["target"]
            height, width = self.scenes.size
            images.append({"id": target["image_id"], "height": height, "width": width})
            corners = target["boxes"].tolist()
            for (x1, y1, x2, y2), label, mask in zip(corners, target["labels"], target["masks"].numpy(), strict=True):
                entry = {"image_id": target["image_id"], "category_id": self.things[label - 1].id, "iscrowd": 0}
                box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(mask.sum())}
                annotations.append({"id": len(annotations) + 1, **entry, **box, "segmentation": encode_rle(mask)})
        return {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": category.id, "name": category.name} for category in self.things],
        }


class ScenePanoptic(SceneObjects, PanopticDataset):
    """Scenes with their segments of things and stuff; arguments as for `SceneObjects`."""

    def labels(self, place: int) -> Sample:
        """All labels of a scene."""
        return self.all_labels(place)
