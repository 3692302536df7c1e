"""Types of command-line arguments: numbers, sizes, names of upsamplers."""

import argparse
import math
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser that reports bad options in one line, like every other user error."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is."""
        words = message.partition("unrecognized arguments: ")[2].split()
        if words and not words[0].startswith("-") and "--recipe" in self._option_string_actions:
            message += ": a recipe is the first word, or follows --recipe"
        raise ValueError(f"{message} (see `{self.prog} --help`)")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return number


def rate(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def size(text: str) -> tuple[int, int]:
    """(height, width) from "N" or "HxW"."""
    height, cross, width = text.lower().partition("x")
    try:
        return positive(height), positive(width if cross else height)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected N or HxW, such as 64 or 48x64, got {text!r}") from None


def volume_size(text: str) -> tuple[int, int, int]:
    """(slices, height, width) from "DxHxW"."""
    try:
        slices, height, width = map(positive, text.lower().split("x"))
    except (argparse.ArgumentTypeError, ValueError):
        raise argparse.ArgumentTypeError(f"expected DxHxW, such as 24x128x128, got {text!r}") from None
    return slices, height, width


def spacing(text: str) -> tuple[float, float, float]:
    """(x, y, z) in mm from "XxYxZ"."""
    try:
        x, y, z = map(float, text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected XxYxZ in mm, such as 0.8x0.8x3, got {text!r}") from None
    return x, y, z


def upsamplers(text: str) -> tuple[str, ...]:
    """Comma-separated keys of `resfu.UPSAMPLERS`; "all" for every one."""
    from resfu.upsamplers import UPSAMPLERS  # torch

    if text.strip() == "all":
        return tuple(UPSAMPLERS)
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in UPSAMPLERS]
    if unknown or not names:
        words = f"unknown upsampler {unknown[0]!r}" if unknown else "no upsampler given"
        raise argparse.ArgumentTypeError(f"{words}; choose from {', '.join(UPSAMPLERS)}")
    return names


def variants(text: str) -> tuple[str, ...]:
    """Like `upsamplers`, but each name may carry constructor arguments: NAME+KEY=VALUE+KEY=VALUE."""
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    names = upsamplers(",".join(word.partition("+")[0] for word in words))
    return names if words == ("all",) else words


def seed(text: str) -> int:
    """A whole number that random generators take: from 0, below 2^32."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 32:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {(1 << 32) - 1}, got {text!r}")
    return number


def seeds(text: str) -> tuple[int, ...]:
    """The first N seeds from "N", or those of a comma-separated list."""
    if "," not in text:
        return tuple(range(positive(text)))
    return tuple(seed(word) for word in text.split(",") if word.strip())
