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


def read_image(
    path: Path, labelled_size: tuple[int, int] | None = None, labelled_as: Orientation = "shown"
) -> NDArray[np.uint8]:
    """Read a picture the way up that viewers show it: turned or mirrored as its EXIF orientation says.

    Labels may have been drawn on the pixels as they are stored instead. Where the two have different sizes, the
    labels' size says which; where not, `labelled_as` does.

    Args:
        path: a file of any format that Pillow knows, see `to_rgb` for what becomes of its values.
        labelled_size: (H, W) of the labels that belong to it; None: there are none.
        labelled_as: what labels of a size that says nothing were drawn on.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UnreadableFileError: naming the file, for damage, an animation, or values that nothing tells the colours of.
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
        path: a single-channel or palette file; the stored numbers are the labels.

    Returns:
        uint8 [H, W].

    Raises:
        UnreadableFileError: naming the file.
        ValueError: for a colour file, whose numbers are not labels.
    """
    return np.array(_stored(path, ("L", "P"), "a label map is a single-channel 8-bit file (mode 'L' or 'P')"))


def read_colours(path: Path) -> NDArray[np.uint8]:
    """Read a picture whose colours are numbers, such as COCO's panoptic maps.

    Args:
        path: an RGB or a palette file; of one with transparency the colours as they are stored.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UnreadableFileError: naming the file.
        ValueError: for a file without three colours.
    """
    image = _stored(path, ("RGB", "RGBA", "P"), "its colours stand for numbers, so it must be an RGB file")
    return np.array(image.convert("RGB"))


def map_labels(stored: np.ndarray, table: np.ndarray, path: Path, known: str) -> np.ndarray:
    """Look stored labels up in a table.

    Args:
        stored: uint8 [H, W].
        table: int16 [256], the class of each stored label, -1 for those that the dataset doesn't have.
        path: the file, for the message.
        known: what the dataset does have, for the message.

    Returns:
        int16 [H, W].

    Raises:
        ValueError: for a label that the dataset doesn't have.
    """
    mapped = table[stored]
    if mapped.min() < 0:
        raise ValueError(f"{path} holds the labels {np.unique(stored[mapped < 0]).tolist()}; {known}")
    return mapped


def data_folder(name: str, split: str, splits: Sequence[str], root: str | Path | None, how_to_get: str) -> Path:
    """Check the arguments that say which files a dataset reads.

    Args:
        name: of the dataset, for messages.
        split: what is asked for.
        splits: what there is.
        root: folder of the data.
        how_to_get: where the data come from and how they lie in their folder, for messages.

    Returns:
        The folder.

    Raises:
        ValueError: for an unknown split or no root.
    """
    if split not in splits:
        raise ValueError(f"unknown split {split!r} of {name}; choose one of {', '.join(splits)}.")
    if root is None:
        raise ValueError(f"{name} needs root, the folder of the data. {how_to_get}")
    return Path(root)


def list_files(folder: Path, suffixes: Sequence[str], how_to_get: str) -> list[Path]:
    """The files of a folder that have one of some suffixes, by name.

    Files called "._NAME" are left out: macOS stores metadata in them when it copies to a foreign file system.

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
    """The pairs as they are, once it is known that all their files are there.

    Raises:
        FileNotFoundError: naming the first file that is not, or its folder where there is none.
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
    """Name the file in whatever goes wrong."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise UnreadableFileError(
            f"cannot read the image file {path}: it is damaged, or of a format that Pillow does not read here; save it "
            "as PNG or JPEG."
        ) from error
    # Pillow's decoders report damage by any of these.
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableFileError(f"cannot read the image file {path}: {error}.") from error


def _decode(path: Path) -> tuple[Image.Image, int]:
    with Image.open(path) as image:
        return load_shown(image)


def _stored(path: Path, modes: tuple[str, ...], wanted: str) -> Image.Image:
    """A picture with the numbers that its file stores."""
    with _reading(path):
        image, _ = _decode(path)
    if image.mode not in modes:
        raise ValueError(f"{path} has Pillow mode {image.mode!r}; {wanted}.")
    return image


class ImageFileDataset(SegmentationDataset):
    """Base of the datasets whose samples are an image file and a label file.

    A subclass lists its files and writes `to_class`.

    Args:
        pairs: the files, in the dataset's order.
        transform: see `SegmentationDataset`.
        on_error: what an unreadable file leads to. "raise": an error that names it. "skip": one warning per file, and
            the next readable sample takes its place, so that the length stays.

    Raises:
        ValueError: for another `on_error`.
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
            ValueError: for labels that the dataset doesn't have, naming the file and them.
        """

    def load(self, index: int) -> Sample:
        """Read the sample at `index`, or with on_error="skip" the first readable one from there on."""
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
    """The names in a list of files, one a line, without those of macOS's metadata, see `list_files`.

    Raises:
        ValueError: for a list that is no text in UTF-8, naming it.
    """
    try:
        names = path.read_text(encoding="utf-8-sig").split()  # some editors put a mark before the text
    except UnicodeDecodeError as error:
        raise ValueError(f"the list {path} is not text in UTF-8 ({error}): save it as such.") from error
    return [name for name in names if not name.rpartition("/")[2].startswith("._")]
