"""Datasets made of a COCO annotation file and a folder of images."""

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torchvision import tv_tensors

from resfu.data.base import Sample, Transform
from resfu.data.coco.as_written import Repairs, is_id, tidy_image
from resfu.data.coco.base import Category, ObjectDataset
from resfu.data.image_files import Orientation, data_folder, read_image
from resfu.data.palette import voc_palette
from resfu.data.unreadable import FirstReadable, OnError, UnreadableFileError

SPLITS = ("train", "val")
HOW_TO_GET = (
    "Get train2017.zip, val2017.zip, annotations_trainval2017.zip and panoptic_annotations_trainval2017.zip from "
    "cocodataset.org. Unpack them, and the archives of PNG files inside the last one: root then has the folders "
    "train2017, val2017 and annotations."
)


class CocoDataset(ObjectDataset):
    """Base of COCO's datasets.

    Common omissions in an annotation file are filled in, with one warning that counts them: see
    `resfu.data.coco.as_written`.

    Args:
        kind: "instances" or "panoptic", the beginning of the annotation file's name.
        split: "train" or "val"; "train" leaves out images without a box to train on.
        root: the folder with `train2017`, `val2017` and `annotations`.
        transform: see `ObjectDataset`.
        on_error: what to do about unreadable files and invalid annotations. "raise": an error that names the file or
            annotation. "skip": one warning per unreadable file, and the next readable sample in its place; invalid
            annotations are left out when the dataset is opened, with one warning that counts them.
        labelled_as: what the annotations of photos with an EXIF orientation were drawn on, if the size does not tell:
            "shown", the photo as viewers show it, or "stored", the pixels as stored.

    Raises:
        ValueError: for an unknown split, `on_error` or `labelled_as`, a missing root, or contradictory annotations.
        FileNotFoundError: naming the first missing file.
        UnreadableFileError: for an annotation file that is not JSON.
    """

    def __init__(
        self,
        kind: str,
        split: str,
        root: str | Path | None,
        transform: Transform | None,
        on_error: OnError,
        labelled_as: Orientation,
    ) -> None:
        super().__init__(transform)
        if labelled_as not in ("shown", "stored"):
            raise ValueError(f"labelled_as must be 'shown' or 'stored', got {labelled_as!r}.")
        self._labelled_as: Orientation = labelled_as
        folder = data_folder("coco", split, SPLITS, root, HOW_TO_GET)
        self._readable = FirstReadable(on_error)
        self.training = split == "train"
        self.file = folder / "annotations" / f"{kind}_{split}2017.json"
        self.content = _read_json(self.file)
        self.categories = _categories(self.content["categories"], self.file)
        self._category_ids = {category.id for category in self.categories}
        self._thing_ids = {category.id for category in self.things}
        repairs = Repairs(self.file, on_error)
        self._complete(repairs)
        repairs.warn()
        self._annotations: dict[Any, list[dict[str, Any]]] = {}
        for annotation in self.content["annotations"]:
            self._annotations.setdefault(annotation["image_id"], []).append(annotation)
        images = self.content["images"]
        self.images = [image for image in images if self._has_box(image)] if self.training else images
        if not self.images:
            raise ValueError(f"{self.file} has no image{' with a box to train on' if self.training else ''}.")
        self.sizes = [(image["height"], image["width"]) for image in self.images]
        self._image_folder = folder / f"{split}2017"
        check_files([self._image_folder / image["file_name"] for image in self.images])

    @abstractmethod
    def labels(self, image: dict[str, Any], annotations: list[dict[str, Any]]) -> Sample:
        """The entries of an item besides the image and its name.

        Args:
            image: its record in the annotation file.
            annotations: those of the image.

        Raises:
            UnreadableFileError: naming a damaged label file.
            ValueError: naming an invalid annotation.
        """

    @abstractmethod
    def tidy(self, annotation: dict[str, Any], where: str, repairs: Repairs, sizes: dict[Any, tuple[int, int]]) -> None:
        """Fill in what an annotation omits.

        Args:
            annotation: changed in place.
            where: its name in messages.
            repairs: counts what is filled in.
            sizes: (H, W) of every image by its id.

        Raises:
            ValueError: for an invalid annotation.
        """

    def boxes(self, annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The parts of an image's annotations, each with a box, a category, an area and a crowd flag."""
        return annotations

    def load(self, index: int) -> Sample:
        """Read the sample at `index`; with on_error="skip", the first readable one from there on."""
        return self._readable.read(lambda n: self._read(self.images[n]), index, len(self), f"listed in {self.file}")

    def _read(self, image: dict[str, Any]) -> Sample:
        path = self._image_folder / image["file_name"]
        pixels = read_image(path, (image["height"], image["width"]), self._labelled_as)
        if pixels.shape[:2] != (image["height"], image["width"]):
            raise UnreadableFileError(
                f"{path} is {pixels.shape[0]} x {pixels.shape[1]}, but {self.file} says {image['height']} x "
                f"{image['width']}: the files do not belong together."
            )
        return {
            "image": tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous()),
            "name": path.stem,
            **self.labels(image, self._annotations.get(image["id"], [])),
        }

    def _complete(self, repairs: Repairs) -> None:
        """Fill in omissions in `content` and leave out invalid entries."""
        content = self.content
        images = repairs.kept("image", content["images"], lambda image, where: tidy_image(image, where, repairs))
        sizes = {image["id"]: (image["height"], image["width"]) for image in images}
        if len(sizes) != len(images):
            raise ValueError(f"{self.file} gives two images the same id.")
        # macOS writes such a metadata file beside each file that it copies; a listing of the folder includes them.
        copies = {image["id"] for image in images if Path(image["file_name"]).name.startswith("._")}
        ids = [image.get("id") for image in content["images"] if isinstance(image, dict)]
        left_out = copies | {image for image in ids if is_id(image)} - sizes.keys()
        for image in copies:
            repairs.note("images left out because their files are macOS metadata", f"image {image}")
        annotations = content["annotations"]
        if isinstance(annotations, list) and left_out:
            images_of = [a.get("image_id") if isinstance(a, dict) else None for a in annotations]
            annotations = [
                a for a, image in zip(annotations, images_of, strict=True) if not (is_id(image) and image in left_out)
            ]
        annotations = repairs.kept(
            "annotation", annotations, lambda annotation, where: self.tidy(annotation, where, repairs, sizes)
        )
        content["images"] = [image for image in images if image["id"] not in left_out]
        content["annotations"] = annotations

    def _has_box(self, image: dict[str, Any]) -> bool:
        parts = self.boxes(self._annotations.get(image["id"], []))
        return any(part["category_id"] in self._thing_ids and is_trainable(part, image) for part in parts)


def is_trainable(annotation: dict[str, Any], image: dict[str, Any]) -> bool:
    """Whether an annotation is not a crowd, and its box is at least one pixel wide and high and meets the image."""
    x, y, width, height = annotation["bbox"]
    across = min(x + width, image["width"]) - max(x, 0)
    down = min(y + height, image["height"]) - max(y, 0)
    seen = annotation.get("area", 1) > 0  # a panoptic segment may have no listed area
    return not annotation["iscrowd"] and seen and min(width, height) >= 1 and min(across, down) > 0


def check_files(paths: list[Path]) -> None:
    """Raise a FileNotFoundError that names the first missing file, if any."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} files are missing; the first is {missing[0]}. {HOW_TO_GET}"
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))  # some editors write a byte order mark
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file {file}. {HOW_TO_GET}") from error
    except ValueError as error:
        raise UnreadableFileError(f"cannot read the annotation file {file}: {error}.") from error
    keys = content if isinstance(content, dict) else ()
    missing = [key for key in ("images", "annotations", "categories") if key not in keys]
    if missing:
        raise ValueError(
            f"{file} has no {', '.join(missing)}: it is not a COCO file of instances or panoptic segments."
        )
    return content


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(n, int) and 0 <= n <= 255 for n in value)


def _categories(listed: list[dict[str, Any]], file: Path) -> tuple[Category, ...]:
    palette = voc_palette(256).tolist()
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ValueError(f"{file}: its categories must be a list of objects, each with an id and a name.")
    for entry in listed:
        if not isinstance(entry.get("id"), int) or not isinstance(entry.get("name"), str):
            raise ValueError(f"{file}: a category needs a name and an integer id, got {entry}.")
        if entry.get("color") and not _is_colour(entry["color"]):
            raise ValueError(f"{file}: the color of a category must be [red, green, blue], 0 to 255; got {entry}.")
    if len({entry["id"] for entry in listed}) < len(listed):
        raise ValueError(f"{file} gives two categories the same id.")
    categories = [
        Category(
            id=entry["id"],
            name=entry["name"],
            isthing=bool(entry.get("isthing", True)),  # not given in instance files
            color=tuple(entry.get("color") or palette[entry["id"] % 256]),
        )
        for entry in listed
    ]
    return tuple(sorted(categories, key=lambda category: (not category.isthing, category.id)))
