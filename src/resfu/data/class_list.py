"""classes.txt: the class names and colours of your own data."""

import re
from pathlib import Path

import torch
from torch import Tensor

from resfu.data.base import IGNORE_INDEX
from resfu.data.palette import voc_palette

FILE = "classes.txt"
EXAMPLE = f"{FILE} has one class per line, from class 0 on, each with an optional colour: road #804080"

_LINE = re.compile(r"(?P<name>[^#]*?)(?:\s*#(?P<colour>\S*))?")


def read_classes(root: str | Path | None) -> tuple[tuple[str, ...], Tensor]:
    """Read the class list of a data folder.

    Args:
        root: the folder that holds classes.txt.

    Returns:
        The class names in order, and the colours, uint8 [num_classes, 3]; the default is Pascal VOC's colour.

    Raises:
        FileNotFoundError: if there is no classes.txt.
        ValueError: without `root`, or naming a line that is not a class.
    """
    if root is None:
        raise ValueError(f"no data folder: give root (--data.root DIR); {EXAMPLE}.")
    path = Path(root) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no class list {path}: {EXAMPLE}.")
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): {EXAMPLE}.") from error
    names: list[str] = []
    palette = voc_palette(max(len(lines), 1))
    for number, line in enumerate(lines):
        found = _LINE.fullmatch(line.strip())
        name, colour = (found["name"], found["colour"]) if found else ("", None)
        if not name or name in names or (colour is not None and not re.fullmatch("[0-9a-fA-F]{6}", colour)):
            reason = "is given twice" if name in names else f"is not a class: {EXAMPLE}"
            raise ValueError(f"line {number + 1} of {path}, {line!r}, {reason}.")
        names.append(name)
        if colour is not None:
            palette[number] = torch.tensor(list(bytes.fromhex(colour)), dtype=torch.uint8)
    if not 1 <= len(names) <= IGNORE_INDEX:
        raise ValueError(f"{path} lists {len(names)} classes; expected 1 to {IGNORE_INDEX}.")
    return tuple(names), palette
