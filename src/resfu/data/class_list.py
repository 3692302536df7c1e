"""classes.txt: the names and colours of the classes of your own data."""

import re
from pathlib import Path

import torch
from torch import Tensor

from resfu.data.base import IGNORE_INDEX
from resfu.data.palette import voc_palette

FILE = "classes.txt"
EXAMPLE = f"{FILE} names a class a line, the first being number 0, with its colour where you like: road #804080"

_LINE = re.compile(r"(?P<name>[^#]*?)(?:\s*#(?P<colour>\S*))?")


def read_classes(root: str | Path | None) -> tuple[tuple[str, ...], Tensor]:
    """Read the list of classes of a folder of data.

    Args:
        root: the folder that holds classes.txt.

    Returns:
        The names by number, and the colours, uint8 [num_classes, 3]; a class without one gets that of Pascal VOC.

    Raises:
        FileNotFoundError: without such a file.
        ValueError: without `root`, or for a line that is no class, naming it.
    """
    if root is None:
        raise ValueError(f"no folder of the data: give root (--data.root DIR); {EXAMPLE}.")
    path = Path(root) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no list of classes {path}: {EXAMPLE}.")
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()  # some editors put a mark before the text
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}): {EXAMPLE}.") from error
    names: list[str] = []
    palette = voc_palette(max(len(lines), 1))
    for number, line in enumerate(lines):
        found = _LINE.fullmatch(line.strip())
        name, colour = (found["name"], found["colour"]) if found else ("", None)
        if not name or name in names or (colour is not None and not re.fullmatch("[0-9a-fA-F]{6}", colour)):
            reason = "is given twice" if name in names else f"does not read as a class: {EXAMPLE}"
            raise ValueError(f"line {number + 1} of {path}, {line!r}, {reason}.")
        names.append(name)
        if colour is not None:
            palette[number] = torch.tensor(list(bytes.fromhex(colour)), dtype=torch.uint8)
    if not 1 <= len(names) <= IGNORE_INDEX:
        raise ValueError(f"{path} lists {len(names)} classes; expected 1 to {IGNORE_INDEX}.")
    return tuple(names), palette
