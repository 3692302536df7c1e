"""Tiny copies of the data sets on disk, made from the procedural scenes: to test a pipeline without a download.

Pictures and outlines are those of the scenes; the labels stand for the nearest class that the data set has. Nothing
that is measured on them says anything about the data set.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import Cityscapes as Tables

from resfu.data.generated.scenes import Scenes
from resfu.data.labels.ade20k import ADE20K
from resfu.data.labels.camvid import CamVid
from resfu.data.labels.pascal import PascalContext60, PascalVOC
from resfu.data.palette import voc_palette
from resfu.files.atomic import replacing, write_text

# From a split of the scenes to its pictures, uint8 [H, W, 3], and labels, uint8 [H, W].
Pictures = Callable[[str], Iterator[tuple[np.ndarray, np.ndarray]]]

# For each class of the scenes the name under which each data set stores it.
_COLUMNS = ("camvid", "ade20k", "cityscapes", "voc", "pascal-context")
_STAND_INS = {
    "sky": ("sky", "sky", "sky", "background", "sky"),
    "mountain": ("void", "mountain", "terrain", "background", "mountain"),
    "grass": ("pavement", "grass", "terrain", "background", "grass"),
    "road": ("road", "road", "road", "background", "road"),
    "water": ("void", "water", "ground", "background", "water"),  # Cityscapes: annotated, but not evaluated
    "wall": ("building", "wall", "wall", "background", "wall"),
    "soil": ("pavement", "earth", "sidewalk", "background", "ground"),
    "rock": ("void", "rock", "static", "background", "rock"),  # Cityscapes: not evaluated
    "flower": ("tree", "flower", "vegetation", "pottedplant", "flower"),
    "ring": ("sign", "void", "dynamic", "bicycle", "background"),  # Cityscapes: not evaluated
    "tree": ("tree", "tree", "vegetation", "background", "tree"),
    "fence": ("fence", "fence", "fence", "chair", "fence"),
    "lamp": ("pole", "lamp", "traffic light", "bottle", "light"),
    "animal": ("pedestrian", "animal", "person", "horse", "horse"),
    "cart": ("car", "bus", "car", "car", "car"),
    "cable": ("pole", "pole", "pole", "background", "background"),
}


def write_fixture(name: str, root: str | Path, count: int = 4, size: tuple[int, int] = (48, 64), seed: int = 0) -> Path:
    """Write a tiny valid copy of a data set.

    Args:
        name: one of `FIXTURES`.
        root: a new or empty folder; what `create_dataset` takes as its root.
        count: images per split.
        size: (H, W) in pixels, at least 32.
        seed: another one gives other pictures.

    Returns:
        The folder. The same arguments write the same files.

    Raises:
        ValueError: for an unknown name, a count or size that makes no sense, or a folder that holds something.
    """
    if name not in FIXTURES:
        raise ValueError(
            f"no fixture of {name!r}; choose one of {', '.join(FIXTURES)}. For COCO there is "
            "tests.support.coco_fixture.write_coco_fixture, for synapse and acdc "
            "tests.support.medical_fixtures.write_medical_fixture; scenes, ct and cardiac are generated and need none."
        )
    folder = Path(root)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already: give a new folder, so that no real data are overwritten.")

    def pictures(split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for sample in Scenes(split, size=size, count=count, seed=seed):
            yield sample["image"].permute(1, 2, 0).numpy(), sample["label"].numpy().astype(np.uint8)

    FIXTURES[name](folder, pictures)
    return folder


def _write_camvid(root: Path, pictures: Pictures) -> None:
    stored = _stored("camvid", (*CamVid.classes, "void"))
    for split in ("train", "val", "test"):
        for i, (image, label) in enumerate(pictures(split)):
            _save(image, root / "images" / split / f"{i:04d}.png")
            _save(stored[label], root / "labels" / split / f"{i:04d}.png")


def _write_ade20k(root: Path, pictures: Pictures) -> None:
    stored = _stored("ade20k", ("void", *ADE20K.classes))
    for split, folder in (("train", "training"), ("val", "validation")):
        for i, (image, label) in enumerate(pictures(split), start=1):
            _save(image, root / "images" / folder / f"ADE_{split}_{i:08d}.jpg")
            _save(stored[label], root / "annotations" / folder / f"ADE_{split}_{i:08d}.png")


def _write_cityscapes(root: Path, pictures: Pictures) -> None:
    stored = _stored("cityscapes", [entry.name for entry in Tables.classes if entry.id >= 0])
    for split, city in (("train", "aachen"), ("val", "frankfurt"), ("test", "berlin")):
        for i, (image, label) in enumerate(pictures(split)):
            name = f"{city}_{i:06d}_000019"
            _save(image, root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
            _save(stored[label], root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png")


def _write_voc(root: Path, pictures: Pictures) -> None:
    stored = _stored("voc", PascalVOC.classes)
    lists: dict[str, list[str]] = {}
    for year, split in ((2007, "train"), (2008, "val")):
        lists[split] = []
        for i, (image, label) in enumerate(pictures(split), start=1):
            name = f"{year}_{i:06d}"
            lists[split].append(name)
            _save(image, root / "JPEGImages" / f"{name}.jpg")
            _save(_bordered(stored[label]), root / "SegmentationClass" / f"{name}.png", palette=True)
            if split == "train":  # the labels that come from SBD have no border
                _save(stored[label], root / "SegmentationClassAug" / f"{name}.png")
    lists |= {"trainval": lists["train"] + lists["val"], "trainaug": lists["train"]}
    _write_lists(root / "ImageSets" / "Segmentation", lists)


def _write_context(root: Path, pictures: Pictures) -> None:
    stored = _stored("pascal-context", PascalContext60.classes)
    lists: dict[str, list[str]] = {}
    for year, split in ((2008, "train"), (2009, "val")):
        lists[split] = []
        for i, (image, label) in enumerate(pictures(split), start=1):
            name = f"{year}_{i:06d}"
            lists[split].append(name)
            _save(image, root / "JPEGImages" / f"{name}.jpg")
            _save(stored[label], root / "SegmentationClassContext" / f"{name}.png")
    _write_lists(root / "ImageSets" / "SegmentationContext", lists)


def _stored(column: str, classes: Sequence[str]) -> np.ndarray:
    """The number in the file for each class of the scenes, [16], where `classes` are named in the file's order."""
    place = _COLUMNS.index(column)
    return np.array([classes.index(_STAND_INS[name][place]) for name in Scenes.classes], dtype=np.uint8)


def _bordered(label: np.ndarray) -> np.ndarray:
    """255 wherever a pixel differs from its right or lower neighbour, and in these."""
    border = np.zeros(label.shape, dtype=bool)
    rows, columns = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    border[1:] |= rows
    border[:-1] |= rows
    border[:, 1:] |= columns
    border[:, :-1] |= columns
    return np.where(border, 255, label).astype(np.uint8)


def _save(array: np.ndarray, path: Path, palette: bool = False) -> None:
    picture = Image.fromarray(array)
    if palette:
        picture.putpalette(voc_palette(256).flatten().tolist())
    # JPEG's usual halving of the colour would blur pictures as small as these.
    with replacing(path, durable=False) as draft:
        picture.save(draft, quality=95, subsampling=0)


def _write_lists(folder: Path, lists: dict[str, list[str]]) -> None:
    for split, stems in lists.items():
        write_text(folder / f"{split}.txt", "\n".join(stems) + "\n", durable=False)


FIXTURES: dict[str, Callable[[Path, Pictures], None]] = {
    "camvid": _write_camvid,
    "ade20k": _write_ade20k,
    "cityscapes": _write_cityscapes,
    "voc": _write_voc,
    "pascal-context": _write_context,
    "pascal-context-60": _write_context,
}
