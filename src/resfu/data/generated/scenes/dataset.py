"""The scenes as a dataset with semantic, instance and panoptic labels."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TypedDict

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from resfu.data.base import Sample, SegmentationDataset, Transform
from resfu.data.generated.scenes.classes import CLASSES, PALETTE, STUFF
from resfu.data.generated.scenes.render import Scene, make_scene
from resfu.data.generated.seeding import check_sampling
from resfu.data.generated.store import Arrays, GeneratedStore, default_cache_dir
from resfu.ops.checks import are_ints

# Part of the cache's path: raise it whenever the generator's output changes.
VERSION = 1
COUNTS = {"train": 400, "val": 100, "test": 100}
SMALLEST_SIDE = 32


class SceneSegment(TypedDict):
    """One entry of a panoptic label, with the keys of the COCO panoptic format."""

    id: int
    category_id: int
    isthing: int
    iscrowd: int


class Scenes(SegmentationDataset):
    """Procedural outdoor scenes: 7 classes of stuff and 9 of things, some thin, some with holes, many occluded.

    A sample depends on (seed, split, index, size, difficulty) alone. Scenes are generated when the dataset is first
    opened, and cached on disk. A larger `count` adds to the samples of a smaller one.

    Args:
        split: "train", "val" or "test"; the samples of different splits are independent.
        root: cache folder; default: $RESFU_CACHE/scenes, or ~/.cache/resfu/scenes if that is not set.
        size: (H, W) in pixels, at least 32 each.
        count: number of samples; default: 400 for "train", 100 for the others.
        seed: 0 or more.
        difficulty: 0 (crisp, objects stand out) to 1 (blur up to 2 pixels, noise, uninformative hues, neighbours of
            similar colour). The labels stay the same.
        transform: see `SegmentationDataset`.

    Raises:
        ValueError: for an argument outside its range.
        OSError: if the cache folder cannot be written.
    """

    classes = CLASSES
    palette: ClassVar[Tensor] = PALETTE

    def __init__(
        self,
        split: str,
        root: str | Path | None = None,
        size: Sequence[int] = (192, 192),
        count: int | None = None,
        seed: int = 0,
        difficulty: float = 0.0,
        transform: Transform | None = None,
    ) -> None:
        super().__init__(transform)
        check_sampling("scenes", split, count, seed)
        if not are_ints(size, 2, SMALLEST_SIDE):
            raise ValueError(f"size must be (H, W), two whole numbers of at least {SMALLEST_SIDE}; got {size!r}.")
        if not 0 <= difficulty <= 1:
            raise ValueError(f"difficulty must be 0 to 1, got {difficulty}.")
        self.split = split
        self.size = (size[0], size[1])
        self.seed = seed
        self.difficulty = float(difficulty)
        self._count = COUNTS[split] if count is None else count
        base = default_cache_dir() / "scenes" if root is None else Path(root)
        key = f"v{VERSION}-{size[0]}x{size[1]}-seed{seed}-difficulty{self.difficulty}"
        make = functools.partial(_make, seed, split, self.size, self.difficulty)
        self._store = GeneratedStore(base / key / split, [f"{index:06d}" for index in range(self._count)], make)
        self._store.fill(f"scenes, {split}")

    def __len__(self) -> int:
        return self._count

    def load(self, index: int) -> Sample:
        """The image and its semantic label, see `SegmentationDataset`."""
        scene = self._store.read(index, self._scene)
        return {
            "image": tv_tensors.Image(torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()),
            "label": tv_tensors.Mask(torch.from_numpy(scene.categories.astype(np.int64)[scene.ids - 1])),
            "name": f"{self.split}-{index:06d}",
        }

    def _scene(self, arrays: Arrays) -> Scene:
        scene = Scene(arrays["image"], arrays["ids"], arrays["categories"])
        if scene.image.shape != (*self.size, 3) or scene.ids.shape != self.size:
            raise ValueError(f"expected size {self.size}, got {scene.image.shape} and {scene.ids.shape}.")
        return scene

    def panoptic(self, index: int) -> tuple[Tensor, list[SceneSegment]]:
        """The segments of a sample.

        Args:
            index: index of the sample.

        Returns:
            The segment at each pixel, int32 [H, W], and the list of segments. Ids start at 1; every pixel has a
            segment (there is no void), and a class of stuff has at most one.
        """
        scene = self._store.read(self.checked_index(index), self._scene)
        segments: list[SceneSegment] = [
            {"id": number, "category_id": int(category), "isthing": int(category >= len(STUFF)), "iscrowd": 0}
            for number, category in enumerate(scene.categories, start=1)
        ]
        return torch.from_numpy(scene.ids.astype(np.int32)), segments

    def instances(self, index: int) -> tuple[Tensor, Tensor]:
        """The visible parts of the things of a sample.

        Args:
            index: index of the sample.

        Returns:
            Masks, bool [N, H, W], and their classes, int64 [N], far to near; N may be 0.
        """
        scene = self._store.read(self.checked_index(index), self._scene)
        things = np.flatnonzero(scene.categories >= len(STUFF))
        masks = scene.ids == (things + 1)[:, None, None]
        return torch.from_numpy(masks), torch.from_numpy(scene.categories[things].astype(np.int64))


def _make(seed: int, split: str, size: tuple[int, int], difficulty: float, index: int) -> Arrays:
    return vars(make_scene(seed, split, index, size, difficulty))
