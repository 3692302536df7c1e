"""Datasets that are folders of image and label files."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torchvision import tv_tensors

from resfu.data.base import Sample, SegmentationDataset, Transform
from resfu.data.pixels import load_shown, to_rgb, turn_back
from resfu.data.unreadable import FirstReadable, OnError, UnreadableFileError


class FilePair(NamedTuple):
    """The two files of one sample."""

    image: Path
    label: Path


Orientation = Literal["shown", "stored"]

# Formats of cameras, phones and browsers. A file that Pillow cannot read is reported, not ignored.
PHOTO_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".heic", ".heif"),
    *(".jp2", ".ppm", ".pgm", ".tga"),
)


def read_image(
    path: Path, labelled_size: tuple[int, int] | None = None, labelled_as: Orientation = "shown"
) -> NDArray[np.uint8]:
    """Read an image as viewers show it, with its EXIF orientation applied.

    Labels may have been drawn on the stored pixels instead. The size of the labels decides between the two; if both
    would fit, `labelled_as` decides.

    Args:
        path: a file of any format that Pillow reads; `to_rgb` says how its values are converted.
        labelled_size: (H, W) of its labels; None: it has no labels.
        labelled_as: what the labels were drawn on, if their size does not tell.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UnreadableFileError: naming the file, if it is damaged, an animation, or has values without a defined colour.
    """
    with _reading(path):
        image, orientation = _decode(path)
        pixels = to_rgb(image)
    if orientation == 1 or labelled_size is None:
        return pixels
    stored = turn_back(pixels, orientation)
    fits = [way.shape[:2] == tuple(labelled_size) for way in (pixels, stored)]
    by_choice = fits[0] == fits[1] and labelled_as == "stored"
    return stored if by_choice or fits == [False, True] else pixels


def read_label(path: Path) -> NDArray[np.uint8]:
    """Read a label map.

    Args:
        path: a single-channel or palette file of 1, 8 or 16 bits; the stored numbers are the labels.

    Returns:
        uint8 [H, W].

    Raises:
        UnreadableFileError: naming the file.
        ValueError: for a colour file, because colours are not labels, and for a number above 255.
    """
    modes = ("1", "L", "P", "I;16", "I;16B")
    stored = np.array(_stored(path, modes, "a label map has one channel (mode 'L' or 'P', or '1' or 'I;16')"))
    if stored.max(initial=0) > 255:
        raise ValueError(f"{path} holds the label {stored.max()}; labels are numbers from 0 to 255.")
    return stored.astype(np.uint8)


def read_colours(path: Path) -> NDArray[np.uint8]:
    """Read an image that encodes numbers as colours, such as COCO's panoptic maps.

    Args:
        path: an RGB or palette file; an alpha channel is ignored.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UnreadableFileError: naming the file.
        ValueError: for a file that is not in colour.
    """
    image = _stored(path, ("RGB", "RGBA", "P"), "its colours stand for numbers, so it must be an RGB file")
    return np.array(image.convert("RGB"))


def map_labels(stored: np.ndarray, table: np.ndarray, path: Path, known: str) -> np.ndarray:
    """Look stored labels up in a table.

    Args:
        stored: uint8 [H, W].
        table: int16 [256], the class of each stored label, -1 for labels that the dataset does not have.
        path: the file, for the message.
        known: the labels that the dataset has, for the message.

    Returns:
        int16 [H, W].

    Raises:
        ValueError: for a label that the dataset does not have.
    """
    mapped = table[stored]
    if mapped.min() < 0:
        raise ValueError(f"{path} holds the labels {np.unique(stored[mapped < 0]).tolist()}; {known}")
    return mapped


def data_folder(name: str, split: str, splits: Sequence[str], root: str | Path | None, how_to_get: str) -> Path:
    """Check a dataset's split and root.

    Args:
        name: the name of the dataset, for messages.
        split: the requested split.
        splits: the splits that the dataset has.
        root: folder of the data.
        how_to_get: where to get the data and how to arrange them, for messages.

    Returns:
        The folder.

    Raises:
        ValueError: for an unknown split or a missing root.
    """
    if split not in splits:
        raise ValueError(f"unknown split {split!r} of {name}; choose one of {', '.join(splits)}.")
    if root is None:
        raise ValueError(f"{name} needs root, the folder of the data. {how_to_get}")
    return Path(root)


def list_files(folder: Path, suffixes: Sequence[str], how_to_get: str) -> list[Path]:
    """The files of a folder with one of the given suffixes, sorted by name.

    Files called "._NAME" are left out: macOS writes its metadata there when it copies to a foreign file system.

    Raises:
        FileNotFoundError: for a missing folder, or one without such a file.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}. {how_to_get}")
    files = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith("._")
    )
    if not files:
        raise FileNotFoundError(f"no {', '.join(suffixes)} file in {folder}. {how_to_get}")
    return files


def checked_pairs(pairs: list[FilePair], how_to_get: str) -> list[FilePair]:
    """The pairs, after a check that all their files exist.

    Raises:
        FileNotFoundError: naming the first missing file, or its folder if that is missing too.
    """
    for kind in ("image", "label"):
        missing = [path for pair in pairs if not (path := getattr(pair, kind)).is_file()]
        if missing:
            if not missing[0].parent.is_dir():
                raise FileNotFoundError(f"no folder {missing[0].parent}. {how_to_get}")
            raise FileNotFoundError(
                f"images without their {kind} file: {len(missing)} of {len(pairs)}; the first is {missing[0]}. "
                f"{how_to_get}"
            )
    return pairs


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn every error of Pillow into one that names the file."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise UnreadableFileError(
            f"cannot read the image file {path}: it is damaged, or of a format that Pillow does not read here; save it "
            "as PNG or JPEG."
        ) from error
    # Pillow's decoders raise any of these for a damaged file.
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableFileError(f"cannot read the image file {path}: {error}.") from error


def _decode(path: Path) -> tuple[Image.Image, int]:
    with Image.open(path) as image:
        return load_shown(image)


def read_stored(path: Path) -> Image.Image:
    """Read a file as it is, in Pillow's mode, with its EXIF orientation applied.

    Raises:
        UnreadableFileError: naming the file.
    """
    with _reading(path):
        return _decode(path)[0]


def _stored(path: Path, modes: tuple[str, ...], wanted: str) -> Image.Image:
    image = read_stored(path)
    if image.mode not in modes:
        raise ValueError(f"{path} has Pillow mode {image.mode!r}; {wanted}.")
    return image


class ImageFileDataset(SegmentationDataset):
    """Base of the datasets with an image file and a label file per sample.

    A subclass lists its files and implements `to_class`.

    Args:
        pairs: the files, in the dataset's order.
        transform: see `SegmentationDataset`.
        on_error: what to do about an unreadable file. "raise": an error that names it. "skip": one warning per file,
            and the next readable sample in its place; the length stays the same.

    Raises:
        ValueError: for an unknown `on_error`.
    """

    def __init__(self, pairs: list[FilePair], transform: Transform | None = None, on_error: OnError = "raise") -> None:
        super().__init__(transform)
        self.pairs = pairs
        self._readable = FirstReadable(on_error)

    def __len__(self) -> int:
        return len(self.pairs)

    @abstractmethod
    def to_class(self, stored: np.ndarray, path: Path) -> np.ndarray:
        """Turn stored labels into class numbers.

        Args:
            stored: uint8 [H, W], as read from the file.
            path: the file, for messages.

        Returns:
            [H, W], 0 to num_classes - 1, or `ignore_index`.

        Raises:
            ValueError: naming the file and the labels that the dataset does not have.
        """

    def load(self, index: int) -> Sample:
        """Read the sample at `index`; with on_error="skip", the first readable one from there on."""
        where = f"the first being {self.pairs[0].image}"
        return self._readable.read(lambda place: self._read(self.pairs[place]), index, len(self), where)

    def _read(self, pair: FilePair) -> Sample:
        label = self.to_class(read_label(pair.label), pair.label)
        image = read_image(pair.image, (label.shape[0], label.shape[1]))
        if image.shape[:2] != label.shape:
            raise ValueError(
                f"{pair.image} is {image.shape[0]} x {image.shape[1]} but its label {pair.label} is "
                f"{label.shape[0]} x {label.shape[1]}; both must have the same size."
            )
        return {
            "image": tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1).contiguous()),
            "label": tv_tensors.Mask(torch.from_numpy(label.astype(np.int64))),
            "name": pair.image.stem,
        }


def listed_names(path: Path) -> list[str]:
    """The names in a file list, one per line, without macOS's metadata files (see `list_files`).

    Raises:
        ValueError: naming the list, if it is not UTF-8 text.
    """
    try:
        names = path.read_text(encoding="utf-8-sig").split()  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"the list {path} is not UTF-8 text ({error}): save it as UTF-8.") from error
    return [name for name in names if not name.rpartition("/")[2].startswith("._")]
